"""`python -m otpqueue.simulator`."""

from otpqueue.simulator.command import simulator

if __name__ == "__main__":
    simulator(prog_name="python -m otpqueue.simulator")
