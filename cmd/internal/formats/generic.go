package formats

import "github.com/sherd-forensics/sherd/parse"

var generic = []parse.Format{}
