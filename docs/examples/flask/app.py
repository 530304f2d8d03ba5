"""Sign up and log in by phone: a back end with Flask. docs/clients.md describes how to run it."""

import os
import secrets

from flask import Flask, redirect, render_template, request, session

from otpqueue import client as otpqueue

app = Flask(__name__)
app.secret_key = os.environ["SESSION_SECRET"]
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
otp = otpqueue.OtpqueueClient()  # reads OTPQUEUE_URL and OTPQUEUE_API_KEY
users: set[str] = set()  # a real application has a database
statuses: dict[str, str] = {}  # status of each request, as webhooks report it


@app.get("/")
def show_page():
    return render_template("page.html", **session, status=statuses.get(session.get("request_id")))


@app.post("/codes")
def send_code():
    session.clear()
    session["number"] = "+" + "".join(filter(str.isdigit, request.form["number"]))
    # Binds the code to this browser: elsewhere the code is wrong.
    session["otp_session"] = secrets.token_urlsafe(16)
    session["request_id"] = otp.send_code(
        session["number"], session_id=session["otp_session"], client_ip=request.remote_addr
    ).id
    return redirect("/")


@app.post("/resend")
def resend_code():
    otp.resend_code(session["request_id"], channel=request.form["channel"])
    return redirect("/")


@app.post("/login")
def verify_code():
    otp.verify_code(session["request_id"], request.form["code"], session_id=session["otp_session"])
    # Only here is the number proven: verify_code raises an error for every other code.
    number = session["number"]
    is_new = number not in users
    users.add(number)
    session.clear()
    session.update(user=number, is_new=is_new)
    return redirect("/")


@app.post("/webhooks/otpqueue")
def receive_webhook():
    try:
        # Two secrets, separated by a space, while the secret is rotated.
        event = otpqueue.verify_webhook(request.headers, request.data, os.environ["WEBHOOK_SECRETS"].split())
    except otpqueue.InvalidWebhookError:
        return "", 401
    if event.type.startswith("otp_request."):  # a repeated event changes nothing
        statuses[event.data["id"]] = event.data["status"]
    return "", 204


@app.errorhandler(KeyError)
def start_again(error):
    return redirect("/")  # the form or the session lacks a field


@app.errorhandler(otpqueue.OtpqueueClientError)
def show_error(error):
    app.logger.info("otpqueue: %s", error)
    page = render_template("page.html", **session, error=describe_error(error))
    return page, getattr(error, "status", 503)


def describe_error(error):
    match error:
        case otpqueue.CodeIncorrectError():
            return f"Wrong code. {error.checks_left} attempts left."
        case otpqueue.InvalidRequestError():
            return "This is not a phone number with + and country code, or not a code of six digits."
        case otpqueue.UnprocessableError():
            return "We cannot send codes to this number."
        case otpqueue.TooManyRequestsError():
            return f"Please wait {error.retry_after or 60:.0f} seconds."
        case otpqueue.NotSentYetError():
            return "Your code is on its way."
        case otpqueue.RequestEndedError():
            return "This code is no longer valid. Request a new one."
    return "This does not work at the moment. Please try again later."
