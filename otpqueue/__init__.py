"""otpqueue: SMS one-time passcodes as a service."""
