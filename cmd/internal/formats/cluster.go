package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/k8saudit"
	"github.com/sherd-forensics/sherd/parse/k8sevent"
	"github.com/sherd-forensics/sherd/parse/k8sobject"
	"github.com/sherd-forensics/sherd/parse/podstatus"
)

// cluster is what Kubernetes writes.
var cluster = []parse.Format{k8saudit.Format, k8sevent.Format, podstatus.Format, k8sobject.Format}
