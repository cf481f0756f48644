import builtins, http.client, json, socket
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")
c = Unix("docker")
spec = {"Image": "$IMAGE", "HostConfig": {"Privileged": False, "Binds": ["/etc:/host:ro"]}}
c.request("POST", "/containers/create?name=$CREATED", json.dumps(spec), {"Content-Type": "application/json"})
made = json.loads(c.getresponse().read())["Id"]
c.request("POST", "/containers/%s/start" % made)
c.getresponse().read()
builtins._keep = (c, made)
