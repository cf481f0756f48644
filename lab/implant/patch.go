package main

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"strings"
)

// patch writes a mark over the last bytes of another process's .text, where nothing that runs lies: the program
// goes on as before, yet its text differs from its file. It returns the address.
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
	file, err := elf.Open(proc + "/exe")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	text := file.Section(".text")
	if text == nil {
		return 0, errors.New(program + " has no .text")
	}
	last := text.Offset + text.Size - 48
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to, offset uint64
		var perms string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s %x", &from, &to, &perms, &offset); err != nil {
			return 0, err
		}
		if perms != "r-xp" || !strings.HasSuffix(lines.Text(), program) || last < offset || last >= offset+to-from {
			continue
		}
		mem, err := os.OpenFile(proc+"/mem", os.O_RDWR, 0)
		if err != nil {
			return 0, err
		}
		defer mem.Close()
		at := from + last - offset
		_, err = mem.WriteAt([]byte("\xcc\xccSHERD-LAB-HK\xcc\xcc"), int64(at))
		return at, err
	}
	return 0, errors.New("no text of " + program + " is mapped")
}
