"""Which version answers, and how a new one takes over: routes, mirrored requests, rollouts that judge themselves."""
