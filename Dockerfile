FROM python:3.13-slim

RUN useradd --system --create-home --uid 10001 otpqueue
WORKDIR /app

COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY migrations ./migrations
COPY otpqueue ./otpqueue
RUN pip install --no-cache-dir --no-deps .

USER otpqueue
ENV OTPQUEUE_HOST=0.0.0.0
EXPOSE 8000
CMD ["otpqueue", "api"]
