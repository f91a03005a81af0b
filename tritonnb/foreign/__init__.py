"""Code that runs in another interpreter: it is copied or started as a script, and imports nothing of tritonnb."""
