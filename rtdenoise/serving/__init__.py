"""The filter as a service: sound comes and goes over WebSockets, one `AsyncDenoiser` a connection."""
