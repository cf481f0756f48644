package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/auditd"
	"github.com/sherd-forensics/sherd/parse/syslog"
	"github.com/sherd-forensics/sherd/parse/utmp"
)

// node is what the machine's own daemons write.
var node = []parse.Format{auditd.Format, syslog.Format, utmp.Format}
