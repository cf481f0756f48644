package safefs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxXattrs bounds the sum of one object's extended attributes: the kernel allows 64 KiB for each and for the list, which can
// come to gigabytes.
const maxXattrs = 512 << 10

// Xattrs are the extended attributes of one entry, raw. What can't be read is named in the error, beside those that could.
func (d *Dir) Xattrs(name string) (map[string]string, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return run(d.r.g, d.h, func(fd int) (map[string]string, error) {
		return xattrs("/proc/self/fd/" + strconv.Itoa(fd) + "/" + name)
	}, nil)
}

// SelfXattrs are the directory's own extended attributes.
func (d *Dir) SelfXattrs() (map[string]string, error) {
	return run(d.r.g, d.h, func(fd int) (map[string]string, error) {
		return followXattrs("/proc/self/fd/" + strconv.Itoa(fd))
	}, nil)
}

// Xattrs are the root's own extended attributes, of the object at its top.
func (r *Root) Xattrs() (map[string]string, error) {
	return run(r.g, r.h, func(fd int) (map[string]string, error) {
		return followXattrs("/proc/self/fd/" + strconv.Itoa(fd))
	}, nil)
}

func followXattrs(path string) (map[string]string, error) {
	return readXattrs(path, unix.Listxattr, unix.Getxattr)
}

func xattrs(path string) (map[string]string, error) {
	return readXattrs(path, unix.Llistxattr, unix.Lgetxattr)
}

// lists lends buffers: most objects have no attributes, and each is asked.
var lists sync.Pool

func readXattrs(path string, list func(string, []byte) (int, error), get func(string, string, []byte) (int, error)) (map[string]string, error) {
	lent, ok := lists.Get().(*[]byte)
	if !ok {
		b := make([]byte, 64<<10) // XATTR_LIST_MAX
		lent = &b
	}
	defer lists.Put(lent)
	buf := *lent
	n, err := list(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing extended attributes: %w", err)
	}
	out := map[string]string{}
	var bad []error
	total := 0
	var vsmall [512]byte
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		v := vsmall[:]
		m, err := get(path, name, v)
		if errors.Is(err, unix.ERANGE) {
			v = make([]byte, 64<<10)
			m, err = get(path, name, v)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("extended attribute %q: %w", name, err))
			continue
		}
		if total += len(name) + m; total > maxXattrs {
			bad = append(bad, fmt.Errorf("extended attributes: %w of %d bytes", ErrTooLarge, maxXattrs))
			break
		}
		out[name] = string(v[:m])
	}
	return out, errors.Join(bad...)
}
