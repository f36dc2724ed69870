"""securedelivery: an ordering and delivery service over a secure socket."""

__version__ = "0.1.0"
