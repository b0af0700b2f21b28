"""What can be asked of the service, whoever asks: submit, cancel, retry, look, report. Routes only translate HTTP."""
