package detect

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// updateName matches variables and labels by which an image or its operator says where an application brings itself up to date.
var updateName = regexp.MustCompile(`(?i)(^|[_.\-])(self|auto)?[_\-]?(update|upgrade)r?s?([_.\-]|$)`)

// announced names the variable or label by which image or runtime say that updates go to a path or a folder above it, "" if none does. What
// processes have in their environments counts for nothing: only what was configured.
func (f *Facts) announced(path string) string {
	for _, from := range []map[string]string{f.Config.Env, f.Config.Labels} {
		for _, name := range slices.Sorted(maps.Keys(from)) {
			if !updateName.MatchString(name) {
				continue
			}
			for _, dir := range absolutePath.FindAllString(from[name], 16) {
				// A place, and not the whole of a file system.
				if dir = strings.TrimSuffix(dir, "/"); strings.Count(dir, "/") >= 2 && under(path, dir) {
					return name
				}
			}
		}
	}
	return ""
}

// begunAgain takes the container's creation for its beginning where the runtime says that it ended once before it was started the last
// time: what came to be in an earlier run did not come with the last start.
func (f *Facts) begunAgain(d *document) {
	var state struct{ StartedAt, FinishedAt string }
	if json.Unmarshal(d.State, &state) != nil {
		return
	}
	started, err := time.Parse(time.RFC3339Nano, state.StartedAt)
	if err != nil {
		return
	}
	finished, err := time.Parse(time.RFC3339Nano, state.FinishedAt)
	if err != nil || finished.Year() < 1980 || !finished.Before(started) {
		return
	}
	if created, err := time.Parse(time.RFC3339Nano, d.Created); err == nil && created.Before(finished) {
		f.Started = created.UnixNano()
	}
}
