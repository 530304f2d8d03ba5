"""Alert notifications arrive once per channel, also after outages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
import structlog
from sqlalchemy import text

from otpqueue.domain.alert_notices import KEPT_TRYING
from otpqueue.domain.alerts import AlertState, NotificationChannel
from otpqueue.operations.alerts.notify import NotificationFailed, NotifyAlerts, WebhookNotifier
from otpqueue.store.engine import connection
from tests.alerts import consistency
from tests.alerts.conftest import Deployment, MakeDeployment, numbers, only
from tests.alerts.receiving import Inbox, Receivers
from tests.conftest import Engines
from tests.operations.looking import at_once, connections_refused, until

SENDS = {"path": "/2fa/2/pin"}
HOUR = timedelta(hours=1)


@pytest.fixture
def receivers() -> Receivers:
    """Return where a webhook and a mail server will be."""
    return Receivers(Inbox())


@pytest.fixture
def inbox(receivers: Receivers) -> Inbox:
    """Return what has arrived there."""
    return receivers.inbox


@pytest.fixture
def notified(make_deployment: MakeDeployment, receivers: Receivers) -> Deployment:
    """Return a deployment that notifies these receivers."""
    return make_deployment(only("provider_5xx", "number_requests"), **receivers.settings)


@pytest.fixture
def served(receivers: Receivers) -> Iterator[Inbox]:
    """Yield what has arrived, with both receivers up."""
    with receivers.up():
        yield receivers.inbox


def open_one(deployment: Deployment) -> UUID:
    """Let Infobip fail once, so that an alert opens at the next evaluation; return its id."""
    deployment.provider.fault(status=503, times=1, match=SENDS)
    deployment.send(["+447700900123"])
    (found,) = deployment.evaluate()
    (alert_id,) = found.opened
    return alert_id


def close_all(deployment: Deployment) -> None:
    """Let time pass until all is well again."""
    deployment.now += HOUR
    deployment.evaluate(3)
    assert deployment.open() == []


def notify(deployment: Deployment) -> int:
    """Deliver what is due, some time later; return how many notices arrived."""
    deployment.now += HOUR
    return deployment.parts.notify_alerts(now=deployment.now)


def execute(deployment: Deployment, statement: str) -> None:
    """Run a statement."""
    with connection(deployment.parts.engine) as conn:
        conn.execute(text(statement))


def happened(deployment: Deployment, alert_id: UUID) -> list[tuple[str, str | None]]:
    """Return what happened to an alert."""
    return [(one.what, one.detail) for one in deployment.parts.alert_admin.get(alert_id).history]


def test_one_notice_of_each_transition(notified: Deployment, served: Inbox) -> None:
    """On each channel one notice comes when an alert opens, and one when it closes, however often we look."""
    alert_id = open_one(notified)
    with structlog.testing.capture_logs() as records:
        assert notify(notified) == 3
        assert notify(notified) == 0
        close_all(notified)
        assert notify(notified) == 3
        assert notify(notified) == 0

    opened, closed = served.titles
    assert opened == "[WARNING] shop: Infobip answers with server errors (provider_5xx)"
    assert closed == "[RESOLVED] shop: Infobip answers with server errors (provider_5xx)"
    assert served.subjects == [opened, closed]
    events = [one for one in records if one["event"].startswith("alert_")]
    assert [(one["event"], one["log_level"]) for one in events] == [
        ("alert_opened", "error"),
        ("alert_closed", "warning"),
    ]
    assert {one["alert_id"] for one in events} == {str(alert_id)}


def test_what_a_notice_says(notified: Deployment, served: Inbox) -> None:
    """Value, threshold, figures and where to read on stand in post and mail, and nothing secret."""
    alert_id = open_one(notified)
    notify(notified)

    (headers, body), (mail,) = served.posts[0], served.mails
    assert headers["content-type"] == "application/json"
    assert set(body) == {"text", "blocks"}
    assert [block["type"] for block in body["blocks"]] == ["header", "section"]
    link = f"https://otp.example/console/alerts/{alert_id}"
    content = mail.get_content()
    for said in (body["text"], content):
        assert "1 over 5 min, sample 2; bad from 1." in said
        assert "http_503 1" in said
        assert link in said
        assert "What to do: Infobip answered with server errors." in said
        assert "https://otp.example/console/runbooks/provider_5xx" in said
        assert "900123" not in said
    assert body["blocks"][0]["text"]["text"] == (
        "[WARNING] shop: Infobip answers with server errors (provider_5xx)"
    )
    assert mail["To"] == "ops@example.com, boss@example.com"
    id_of_post, id_of_mail = headers["x-otpqueue-notice-id"], str(mail["Message-ID"])
    assert id_of_mail.endswith("@otp.example>")
    assert UUID(id_of_post) != UUID(id_of_mail[1:].partition("@")[0])


def test_receivers_that_were_down_are_notified_once(
    notified: Deployment, inbox: Inbox, receivers: Receivers
) -> None:
    """After an outage of the receivers one opening and one closing arrive."""
    alert_id = open_one(notified)
    with structlog.testing.capture_logs() as records:
        assert notify(notified) == 1
        close_all(notified)
        assert notify(notified) == 1
    failed = [one for one in records if one["event"] == "alert_notice_failed"]
    assert {(one["channel"], one["problem"]) for one in failed} == {
        ("webhook", "connection_failed"),
        ("email", "connection_failed"),
    }
    assert "s3cret" not in json.dumps(records, default=str)

    with receivers.up():
        assert notify(notified) == 4
        assert notify(notified) == 0

    assert [title.partition(" ")[0] for title in inbox.titles] == ["[WARNING]", "[RESOLVED]"]
    assert [subject.split()[0] for subject in inbox.subjects] == ["[WARNING]", "[RESOLVED]"]
    history = happened(notified, alert_id)
    assert ("notice_failed", "opened by webhook: connection_failed") in history
    assert history.count(("notice_delivered", "closed by email")) == 1


@pytest.mark.parametrize("status", [301, 404, 500])
def test_answer_that_is_no_yes(notified: Deployment, served: Inbox, status: int) -> None:
    """Whatever a webhook answers but 2xx, the notice is tried again, under the same id."""
    served.status = status
    alert_id = open_one(notified)
    notify(notified)
    served.status = 204

    assert notify(notified) == 1

    ids = [headers["x-otpqueue-notice-id"] for headers, _ in served.posts]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert ("notice_failed", f"opened by webhook: http_{status}") in happened(notified, alert_id)


def test_pause_before_the_next_try(notified: Deployment, inbox: Inbox, receivers: Receivers) -> None:
    """The pause before a retry is some seconds, and at most a quarter of an hour."""
    open_one(notified)
    notified.parts.notify_alerts(now=notified.now)
    with receivers.up():
        assert notified.parts.notify_alerts(now=notified.now + timedelta(seconds=4)) == 0
        assert notified.parts.notify_alerts(now=notified.now + timedelta(seconds=11)) == 2
    assert len(inbox.posts) == len(inbox.mails) == 1


def test_notice_is_kept_trying_for_days(notified: Deployment, inbox: Inbox, receivers: Receivers) -> None:
    """A notification is retried for three days, then given up and logged."""
    alert_id = open_one(notified)
    notified.now += timedelta(days=1)
    notify(notified)
    notices = {one.channel: one for one in notified.parts.alert_admin.get(alert_id).notices}
    assert notices[NotificationChannel.WEBHOOK].next_try_at is not None
    notified.now += KEPT_TRYING
    with structlog.testing.capture_logs() as records:
        notify(notified)

    given_up = [one for one in records if one["event"] == "alert_notice_given_up"]
    assert sorted(one["channel"] for one in given_up) == ["email", "webhook"]
    close_all(notified)
    with receivers.up():
        assert notify(notified) == 1
    assert inbox.posts == []
    assert ("notice_given_up", "opened by email: connection_failed") in happened(notified, alert_id)


def test_many_at_once_deliver_once(notified: Deployment, served: Inbox) -> None:
    """Of workers that notify at the same moment each notice is one's."""
    open_one(notified)
    notified.now += HOUR

    arrived = at_once([lambda: notified.parts.notify_alerts(now=notified.now)] * 6)

    assert sum(arrived) == 3
    assert len(served.posts) == len(served.mails) == 1


def test_killed_after_delivering(notified: Deployment, served: Inbox) -> None:
    """A worker killed before recording repeats the notification with the same id."""
    open_one(notified)
    notifier = notified.parts.notify_alerts
    webhook = next(one for one in notifier.notifiers if one.channel is NotificationChannel.WEBHOOK)

    class Dying:
        channel = NotificationChannel.WEBHOOK

        def deliver(self, *args: object, **kwargs: object) -> None:
            webhook.deliver(*args, **kwargs)  # type: ignore[arg-type]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(notifier, notifiers=(Dying(),))(now=notified.now)
    assert notify(notified) == 2
    assert len(served.posts) == 1

    execute(notified, "UPDATE alert_notices SET lease_until = now() WHERE lease_until IS NOT NULL")
    assert notify(notified) == 1

    first, second = (headers["x-otpqueue-notice-id"] for headers, _ in served.posts)
    assert first == second


def test_notice_that_arrived_is_not_sent_again(
    notified: Deployment, served: Inbox, engines: Engines, database_url: str
) -> None:
    """An outage of Postgres right after a delivery causes no second notification."""
    open_one(notified)
    notifier = notified.parts.notify_alerts
    webhook = next(one for one in notifier.notifiers if one.channel is NotificationChannel.WEBHOOK)
    outage = connections_refused(engines, database_url)

    class Closing:
        channel = NotificationChannel.WEBHOOK

        def deliver(self, *args: object, **kwargs: object) -> None:
            webhook.deliver(*args, **kwargs)  # type: ignore[arg-type]
            outage.__enter__()

    with ThreadPoolExecutor(1) as job, structlog.testing.capture_logs() as logs:
        running = job.submit(replace(notifier, notifiers=(Closing(),)), now=notified.now)
        until(lambda: [one for one in logs if one["event"] == "results_kept"])
        outage.__exit__(None, None, None)
        assert running.result(60) == 1

    execute(notified, "UPDATE alert_notices SET lease_until = now() WHERE lease_until IS NOT NULL")
    assert notify(notified) == 2  # the other channels
    assert len(served.posts) == 1


def test_channel_that_fails_does_not_hold_up_others(notified: Deployment, served: Inbox) -> None:
    """A webhook that refuses is asked once a run, and the mails go out."""
    notified.provider.fault(status=503, times=1, match=SENDS)
    notified.send(["+447700900123"])
    for _ in range(11):
        notified.try_to_ask("+447700900124")
    notified.evaluate()
    assert notified.rules_open() == ["number_requests", "provider_5xx"]
    served.status = 500

    assert notify(notified) == 4

    assert (len(served.posts), len(served.mails)) == (1, 2)


def test_acknowledged_alert_notifies_its_end(notified: Deployment, served: Inbox) -> None:
    """The end of an acknowledged alert is notified. The first acknowledgement stays."""
    alert_id = open_one(notified)
    notify(notified)
    desk = notified.parts.alert_admin
    assert desk.ack(alert_id, by="anna").acknowledged_by == "anna"
    assert desk.ack(alert_id, by="ben").acknowledged_by == "anna"

    close_all(notified)
    notify(notified)

    assert [title.split()[0] for title in served.titles] == ["[WARNING]", "[RESOLVED]"]
    assert [what for what, _ in happened(notified, alert_id)].count("acknowledged") == 1


def test_silenced_alert_notifies_nothing(notified: Deployment, served: Inbox) -> None:
    """A silenced alert opens and closes without notifications, as its history shows."""
    silence(notified, "provider_5xx", timedelta(days=2))
    alert_id = open_one(notified)
    notify(notified)
    close_all(notified)
    notify(notified)

    assert served.posts == served.mails == []
    assert happened(notified, alert_id) == [
        ("opened", None),
        ("notice_silenced", "opened"),
        ("closed", None),
        ("notice_silenced", "closed"),
    ]


def test_silence_that_ends_while_it_is_open(notified: Deployment, served: Inbox) -> None:
    """When a silence ends, a still open alert is notified, and later its end."""
    silence_id = silence(notified, "provider_5xx", timedelta(days=2))
    open_one(notified)
    assert notify(notified) == 0
    assert notified.parts.alert_admin.unsilence(silence_id)
    assert not notified.parts.alert_admin.unsilence(silence_id)

    notified.evaluate()
    notify(notified)
    close_all(notified)
    notify(notified)

    assert [title.split()[0] for title in served.titles] == ["[WARNING]", "[RESOLVED]"]


def test_silenced_before_its_notification(notified: Deployment, inbox: Inbox, receivers: Receivers) -> None:
    """A notification that is pending when its alert is silenced waits until the alert closes."""
    alert_id = open_one(notified)
    notify(notified)
    silence(notified, "provider_5xx", timedelta(days=3), subject="all")
    with receivers.up():
        assert notify(notified) == 0
        close_all(notified)
        assert notify(notified) == 0

    assert inbox.posts == inbox.mails == []
    assert ("silenced", None) not in happened(notified, alert_id)
    assert "silenced" in [what for what, _ in happened(notified, alert_id)]


def test_silence_of_another_subject(notified: Deployment, served: Inbox) -> None:
    """A silence is about its rule and subject alone."""
    silence(notified, "provider_5xx", timedelta(days=1), subject="GB")
    silence(notified, "success_rate", timedelta(days=1))
    open_one(notified)

    assert notify(notified) == 3


def silence(deployment: Deployment, rule: str, lasting: timedelta, subject: str | None = None) -> UUID:
    """Silence a rule from now on."""
    return deployment.parts.alert_admin.silence(
        rule=rule, subject=subject, until=deployment.now + lasting, by="anna", reason="known"
    ).id


def test_trying_the_way(notified: Deployment, inbox: Inbox, receivers: Receivers) -> None:
    """A test notice goes to every channel at once, and what came of each is said."""
    with receivers.up():
        tried = notified.parts.notify_alerts.test(by="anna", now=notified.now)
    down = notified.parts.notify_alerts.test(by="anna", now=notified.now)

    assert [(one.channel.value, one.problem) for one in tried] == [
        ("log", None),
        ("webhook", None),
        ("email", None),
    ]
    assert [(one.channel.value, one.problem) for one in down] == [
        ("log", None),
        ("webhook", "connection_failed"),
        ("email", "connection_failed"),
    ]
    assert inbox.titles == ["[TEST] shop: otpqueue can reach you"]
    assert inbox.subjects == ["[TEST] shop: otpqueue can reach you"]
    assert notified.open() == []


def test_without_channels_alerts_are_logged(deployment: Deployment) -> None:
    """Without a configured channel an alert is logged."""
    open_one(deployment)
    with structlog.testing.capture_logs() as records:
        assert notify(deployment) == 1

    assert [one["event"] for one in records if one["log_level"] == "error"] == ["alert_opened"]


def test_mail_that_some_do_not_get(make_deployment: MakeDeployment, receivers: Receivers) -> None:
    """A mail that one recipient got is delivered. The number of the others is logged."""
    to = {"OTPQUEUE_ALERT_EMAIL_TO": "ops@example.com, unknown@example.com"}
    notified = make_deployment(only("provider_5xx"), **receivers.settings | to)
    open_one(notified)
    with receivers.up(), structlog.testing.capture_logs() as records:
        assert notify(notified) == 3
        assert notify(notified) == 0

    (refused,) = [one for one in records if one["event"] == "alert_mail_refused_for_some"]
    assert refused["refused"] == 1
    assert "unknown@" not in json.dumps(records, default=str)
    assert len(receivers.inbox.mails) == 1


def test_every_alert_is_listed_with_its_notices(notified: Deployment, served: Inbox) -> None:
    """What is known of an alert says which notice arrived, and when."""
    alert_id = open_one(notified)
    notify(notified)

    found = notified.parts.alert_admin.get(alert_id)

    assert found.state is AlertState.OPEN
    assert {one.channel for one in found.notices if one.delivered_at} == set(NotificationChannel)
    assert len(found.values) == 1


def test_courier_refuses_what_is_no_answer(receivers: Receivers, notified: Deployment) -> None:
    """A webhook's URL that cannot be one is a failure like any other."""
    courier = WebhookNotifier(post=notified.parts.alert_outbound, url="http://x y/")
    notifier = NotifyAlerts(engine=notified.parts.engine, vault=notified.parts.vault, notifiers=(courier,))

    (tried,) = notifier.test(by="anna", now=notified.now)

    assert tried.problem == "url_not_understood"
    assert NotificationFailed("word").reason == "word"


def test_notice_shows_one_moment(make_deployment: MakeDeployment, receivers: Receivers) -> None:
    """A notice that is delivered after more evaluations has the numbers of the opening, all of one moment."""
    rules = only("check_failures") | {"check_failures": {"min_sample": 4, "opens_after": 1}}
    deployment = make_deployment(rules, **receivers.settings)
    first = numbers(4)
    for place, (request, number) in enumerate(zip(deployment.send(first), first, strict=True)):
        deployment.check(request, number, right=place >= 3)
    deployment.evaluate()
    second = numbers(6, first=50)
    for place, (request, number) in enumerate(zip(deployment.send(second), second, strict=True)):
        deployment.check(request, number, right=place >= 2)
    deployment.evaluate()

    with receivers.up():
        notify(deployment)

    (alert,) = deployment.open("check_failures")
    assert (alert.value, alert.sample) == (0.5, 10)
    consistency.check(alert)
    (said,) = [body["text"] for _, body in receivers.inbox.posts if "check_failures" in body["text"]]
    assert "75.0 % over 1 h, sample 4; bad over 30.0 %." in said
    assert "figures: right 1, wrong 3" in said
    assert "50.0 %" not in said


def test_end_without_data_is_no_value(notified: Deployment, served: Inbox) -> None:
    """A closing notification without data says so."""
    open_one(notified)
    close_all(notified)
    notify(notified)

    (_, closed) = (body["text"] for _, body in served.posts)
    assert "No data in the last evaluation; before that 1 over 5 min, sample 2; bad from 1." in closed
