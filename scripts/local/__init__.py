"""The whole of Nearside on one machine: real Worker and cloud service, emulated models and regions."""
