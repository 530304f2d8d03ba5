"""The service under faults: processes, engines and the provider fail while codes are asked for."""
