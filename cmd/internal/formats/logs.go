package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/containerlog"
)

// logs is what runtimes keep of a container's output, and text.
var logs = []parse.Format{containerlog.Format}
