package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/k8saudit"
)

// cluster is what Kubernetes writes.
var cluster = []parse.Format{k8saudit.Format}
