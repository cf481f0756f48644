package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/cgroup"
	"github.com/sherd-forensics/sherd/parse/elfcore"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/parse/process"
	"github.com/sherd-forensics/sherd/parse/runtimerecord"
	"github.com/sherd-forensics/sherd/parse/socket"
)

// pack is what Sherd's own collectors write.
var pack = []parse.Artifacts{inventory.Artifacts, process.Artifacts, socket.Artifacts, runtimerecord.Artifacts, cgroup.Artifacts, elfcore.Artifacts}
