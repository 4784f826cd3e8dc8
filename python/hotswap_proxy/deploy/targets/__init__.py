"""What can be deployed to. The engine knows only ``Target``."""
