package collect

import (
	"fmt"
	"io"
	"path"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// maxCheckpoint bounds the archive of a checkpoint, which holds the container's memory.
const maxCheckpoint = 256 << 30

// checkpoint takes an archive that the runtime made of the container as it is: checkpoint/<name>. Its error is fatal.
func checkpoint(s subject.Subject, w *evidence.Writer, at string) error {
	miss := func(err error) error {
		w.Miss(record.Miss{What: "the checkpoint " + at, Kind: "memory", Reason: err.Error(), Count: 1})
		return nil
	}
	root, err := safefs.Open(s.Host("/"), safefs.Options{})
	if err != nil {
		return miss(err)
	}
	defer root.Close()
	f, err := root.Open(at)
	if err != nil {
		return miss(err)
	}
	defer f.Close()
	st := f.Stat()
	if st.Size > maxCheckpoint {
		return miss(fmt.Errorf("it has %d bytes, more than are taken", st.Size))
	}
	m := evidence.Meta{Path: "checkpoint/" + path.Base(at), Origin: at, Mode: int64(st.Perm()), UID: int(st.UID), GID: int(st.GID), Mtime: st.Mtime, Ctime: st.Ctime, Btime: st.Btime}
	_, err = w.Stream(m, st.Size, func(out io.Writer) error {
		_, err := io.Copy(out, io.NewSectionReader(f, 0, st.Size))
		return err
	})
	return err
}
