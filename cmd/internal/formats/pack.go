package formats

import "github.com/sherd-forensics/sherd/parse"

var pack = []parse.Artifacts{}
