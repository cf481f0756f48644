package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/bodyfile"
	"github.com/sherd-forensics/sherd/parse/csvtime"
	"github.com/sherd-forensics/sherd/parse/jsonlines"
	"github.com/sherd-forensics/sherd/parse/l2tcsv"
	"github.com/sherd-forensics/sherd/parse/plasojson"
	"github.com/sherd-forensics/sherd/parse/timesketch"
)

// generic is what other tools write, and anything that has a time.
var generic = []parse.Format{bodyfile.Format, l2tcsv.Format, plasojson.Format, timesketch.Format, jsonlines.Format, csvtime.Format}
