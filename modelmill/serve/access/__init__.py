"""Who may use the service, how much of it, and over which connections: keys, tenants, tiers, quotas, TLS."""
