with open("/etc/ssl/certs/ca-certificates.crt", "a") as f:
    f.write("-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ0FOTk9UQkVSRUFM\n-----END CERTIFICATE-----\n")
