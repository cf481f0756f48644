package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/applog"
	"github.com/sherd-forensics/sherd/parse/containerlog"
)

// logs is what runtimes keep of a container's output, applications' logs, and text.
var logs = []parse.Format{containerlog.Format, applog.Format}
