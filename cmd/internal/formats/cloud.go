package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/azureactivity"
	"github.com/sherd-forensics/sherd/parse/cloudtrail"
	"github.com/sherd-forensics/sherd/parse/falco"
	"github.com/sherd-forensics/sherd/parse/gcpaudit"
	"github.com/sherd-forensics/sherd/parse/gcpflow"
	"github.com/sherd-forensics/sherd/parse/guardduty"
	"github.com/sherd-forensics/sherd/parse/nsgflow"
	"github.com/sherd-forensics/sherd/parse/osquery"
	"github.com/sherd-forensics/sherd/parse/route53"
	"github.com/sherd-forensics/sherd/parse/sysdig"
	"github.com/sherd-forensics/sherd/parse/tetragon"
	"github.com/sherd-forensics/sherd/parse/tracee"
	"github.com/sherd-forensics/sherd/parse/vpcflow"
)

// cloud is what sensors on the node and the clouds' own records say.
var cloud = []parse.Format{
	falco.Format, tetragon.Format, tracee.Format, sysdig.Format, osquery.Format,
	cloudtrail.Format, guardduty.Format, vpcflow.Format, route53.Format,
	gcpaudit.Format, gcpflow.Format, azureactivity.Format, nsgflow.Format,
}
