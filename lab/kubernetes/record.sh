#!/usr/bin/env bash
# Records what a real cluster writes while a shop works, breaks, and is broken into: the samples of the Kubernetes parsers.
#   go run ./lab/cmd/lab up kubernetes && lab/kubernetes/record.sh DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
eval "$(go run ./lab/cmd/lab env)"
image=$(go run ./lab/cmd/lab load-kubernetes goweb) python=$(go run ./lab/cmd/lab load-kubernetes python3)
k() { "$SHERD_LAB/bin/kubernetes/kubectl" "$@"; }
quiet() { "$@" >/dev/null 2>&1 || true; } # what is meant to be refused
log=$SHERD_LAB/log
from=$(wc -c <"$log/audit.log") kubelet=$(wc -c <"$log/kubernetes-kubelet.log")

k create namespace shop >/dev/null
k label namespace shop pod-security.kubernetes.io/enforce=restricted >/dev/null
"$SHERD_LAB/bin/kubernetes/kubectl" get events -n shop --watch --output-watch-events -o json >"$out/events.watch" & watch=$!
trap 'kill $watch 2>/dev/null || true; k delete pod -n default agent --now --ignore-not-found >/dev/null; k delete namespace shop --wait=true >/dev/null' EXIT
k apply -n shop -f - >/dev/null <<YAML
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: cart}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: cart}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: cart}
subjects: [{kind: ServiceAccount, name: cart}]
---
apiVersion: v1
kind: Secret
metadata: {name: payment}
stringData: {key: not-a-key}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      serviceAccountName: cart
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: web
          image: $image
          imagePullPolicy: Never
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: batch/v1
kind: Job
metadata: {name: settle}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: OnFailure
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: settle
          image: $image
          imagePullPolicy: Never
          env: [{name: LISTEN, value: nowhere}]
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: grow
      image: $python
      imagePullPolicy: Never
      args: ["-c", "bytes(bytearray(1 << 30))"]
      resources: {limits: {memory: 32Mi}}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: talk
      image: $python
      imagePullPolicy: Never
      args: ["-c", "import sys, time; w = sys.stdout.buffer.write; w(b'{\"level\":\"info\",\"msg\":\"served\",\"status\":200}\\\\n'); sys.stderr.write('a line on standard error\\\\n'); w(b'GET /healthz HTTP/1.1\\\\n' + b'long ' * 8192 + b'\\\\n' + bytes(range(1, 9)) + b'\\\\xff\\\\xfe no text\\\\n\\\\n' + b'no end of line'); sys.stdout.flush(); time.sleep(1)"]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: web, image: "registry.test/lab/none:1", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
YAML
# Another namespace allows what this one does not.
k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: default}
spec:
  hostPID: true
  hostNetwork: true
  containers:
    - name: agent
      image: $image
      imagePullPolicy: Never
      securityContext: {privileged: true}
      volumeMounts: [{name: host, mountPath: /host}]
  volumes: [{name: host, hostPath: {path: /}}]
YAML
k rollout status -n shop deployment/cart --timeout=60s >/dev/null
pod=$(k get pod -n shop -l app=cart -o jsonpath='{.items[0].metadata.name}')
# A shell that is not there, a look into the pod from a debug container, and one that is refused.
quiet k exec -n shop "$pod" -- /bin/sh -c id
quiet k debug -n shop "$pod" --image "$image" --image-pull-policy=Never --target web --profile restricted -c look -- /app/server
quiet k run -n shop miner --image "$image" --privileged
# The token of the pod, used from elsewhere.
token=$(k create token cart -n shop)
thief=("$SHERD_LAB/bin/kubernetes/kubectl" --kubeconfig /dev/null --server "$(k config view -o jsonpath='{.clusters[0].cluster.server}')" --insecure-skip-tls-verify --token "$token")
quiet "${thief[@]}" get secrets -n shop -o yaml
quiet "${thief[@]}" auth can-i --list -n shop
quiet "${thief[@]}" get secrets --all-namespaces
quiet "${thief[@]}" create clusterrolebinding own --clusterrole cluster-admin --serviceaccount shop:cart
quiet k get pods -n shop --as alice@example.test --as-group developers
quiet curl -sk "$(k config view -o jsonpath='{.clusters[0].cluster.server}')/api/v1/namespaces/kube-system/secrets"
k scale -n shop deployment/cart --replicas 1 >/dev/null
sleep 12
cat /var/log/pods/shop_talk_*/talk/*.log | head -c 60000 >"$out/cri.log"
k get events -n shop -o json >"$out/events.json"
k get --raw '/apis/events.k8s.io/v1/namespaces/shop/events' >"$out/events.v1.json"
k get pods -A -o json >"$out/pods.json"
# What stands around the pods. The webhook is asked about nothing that is ever made.
k apply -n shop -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {type: NodePort, selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: cart}
spec:
  rules: [{host: shop.example.test, http: {paths: [{path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cart}
spec: {podSelector: {matchLabels: {app: cart}}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: 8080}]}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}},
  containers: [{name: once, image: "$image", imagePullPolicy: Never, args: [--help], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: report, image: "$image"}]}}}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: shop-inject}
webhooks:
  - name: inject.example.test
    clientConfig: {service: {namespace: shop, name: inject, path: /pods}}
    rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
    objectSelector: {matchLabels: {none: such}}
    failurePolicy: Ignore
    sideEffects: None
    admissionReviewVersions: [v1]
YAML
k rollout restart -n shop deployment/cart >/dev/null
k rollout status -n shop deployment/cart --timeout=60s >/dev/null
k annotate serviceaccount -n shop cart eks.amazonaws.com/role-arn=arn:aws:iam::123456789012:role/cart >/dev/null
{
	k get -n shop -o json --show-managed-fields deployments,replicasets,jobs,cronjobs,services,endpointslices,ingresses,networkpolicies,roles,rolebindings,serviceaccounts
	k get -o json --show-managed-fields namespace/shop mutatingwebhookconfiguration/shop-inject clusterrolebinding/cluster-admin node/lab-node
} | jq -s '{apiVersion: "v1", kind: "List", items: map(.items) | add}' >"$out/objects.json"
k delete mutatingwebhookconfiguration shop-inject >/dev/null
k delete pod -n shop missing --grace-period=0 >/dev/null
sleep 2
kill $watch; wait $watch 2>/dev/null || true
# One JSON text on each line, as a watch sends it.
jq -c . "$out/events.watch" >"$out/watch.jsonl"; rm "$out/events.watch"
# What people, thieves and strangers did, and the first thing that each part of the cluster did by itself.
tail -c +$((from + 1)) "$log/audit.log" | grep -E '"namespace":"shop"|"name":"shop"|system:anonymous|system:serviceaccount:shop' |
	jq -c 'select(.user.username | startswith("system:") and (startswith("system:serviceaccount:shop") or . == "system:anonymous" | not) | not)' >"$out/people"
tail -c +$((from + 1)) "$log/audit.log" | grep '"namespace":"shop"' | jq -c 'select(.user.username | startswith("system:") and (startswith("system:serviceaccount:shop") or . == "system:anonymous" | not))' |
	jq -sc 'group_by([.user.username, .verb])[] | .[0]' >"$out/parts"
sort "$out/people" "$out/parts" | jq -sc 'sort_by(.requestReceivedTimestamp)[]' >"$out/audit.log"
rm "$out/people" "$out/parts"
tail -c +$((kubelet + 1)) "$log/kubernetes-kubelet.log" >"$out/kubelet.log"
wc -lc "$out"/*
