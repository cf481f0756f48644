package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// patch writes a mark over the last bytes of another process's text, which a page's padding nearly always is: the
// program goes on as before, yet its text differs from its file. It returns the address.
func patch(proc string) (uint64, error) {
	maps, err := os.Open(proc + "/maps")
	if err != nil {
		return 0, err
	}
	defer maps.Close()
	program, err := os.Readlink(proc + "/exe")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var perms string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &perms); err != nil {
			return 0, err
		}
		if perms != "r-xp" || !strings.HasSuffix(lines.Text(), program) {
			continue
		}
		mem, err := os.OpenFile(proc+"/mem", os.O_RDWR, 0)
		if err != nil {
			return 0, err
		}
		defer mem.Close()
		at := to - 16
		_, err = mem.WriteAt([]byte("\xcc\xccSHERD-LAB-HK\xcc\xcc"), int64(at))
		return at, err
	}
	return 0, errors.New("no text of " + program + " is mapped")
}
