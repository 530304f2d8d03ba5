"""`python -m otpqueue` is `otpqueue`."""

from otpqueue.cli import main

main()
