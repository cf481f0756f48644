package lake

import (
	"fmt"
	"os"
	"syscall"
)

// describe gives what the file system knows of a file.
func describe(path string) (File, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return File{}, err
	}
	if !st.Mode().IsRegular() {
		return File{}, fmt.Errorf("%s is no regular file", path)
	}
	f := File{Size: st.Size(), Modified: st.ModTime().UnixNano()}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		f.Inode, f.Changed = s.Ino, s.Ctim.Nano()
	}
	return f, nil
}
