# docs/deployment.md describes how to build and run this image. Raise the version for security releases of Python.
ARG PYTHON=3.13.14-slim

FROM python:${PYTHON} AS build
WORKDIR /build
# The application's environment has no pip. Dependencies come first: Docker caches them until the requirements change.
COPY requirements.txt deploy/docker/build-requirements.txt ./
RUN python -m venv --without-pip /opt/otpqueue \
    && pip install --no-cache-dir --require-hashes -r build-requirements.txt \
    && pip --python /opt/otpqueue/bin/python install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY migrations ./migrations
COPY docs ./docs
COPY otpqueue ./otpqueue
RUN pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
    && pip --python /opt/otpqueue/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM python:${PYTHON}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="otpqueue" \
      org.opencontainers.image.description="SMS one-time-passcode service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/otpqueue /opt/otpqueue
# The user has no home and owns no file. Without an entry of its group, Celery warns that it may be root.
RUN groupadd --system --gid 10001 otpqueue \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin otpqueue
ENV PATH="/opt/otpqueue/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    OTPQUEUE_HOST=0.0.0.0
# Numeric, so that Kubernetes can verify `runAsNonRoot`.
USER 10001:10001
# `.env` is read from the working directory. Settings of a container come from its environment.
WORKDIR /srv
EXPOSE 8000
# Of the API. A container of a worker or beat replaces or disables it (docker-compose.yml).
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', 8000)}/health/live\", timeout=2)"]
CMD ["otpqueue", "api"]
