package network

import (
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// FuzzTable reads tables of /proc/<pid>/net whose names others chose.
func FuzzTable(f *testing.F) {
	f.Add(uint8(0), []byte("  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0\n"))
	f.Add(uint8(1), []byte("   0: 00000000000000000000000001000000:14E9 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 777 2 0 0\n"))
	f.Add(uint8(10), []byte("Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 16163 @a\nb: c\n0000000000000000: 00000003 00000000 00000000 0002 03 16164\n"))
	f.Add(uint8(11), []byte("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n0000000000000000 3      3    0003   2     1 0      0      19417\n"))
	f.Add(uint8(12), []byte("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n0000000000000000 0   1234       00000000 0        0        0     2        0        19417\n"))
	f.Fuzz(func(t *testing.T, n uint8, b []byte) {
		name := socketTables[int(n)%len(socketTables)]
		err := parseTable(name, "x", b, func(s record.Socket) error {
			if s.Family == "" || s.Protocol == "" || s.Source != "x" || s.LocalPort < 0 || s.RemotePort < 0 {
				t.Fatalf("%s: %+v", name, s)
			}
			newComparison().key(name, &s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzNetlink takes a datagram apart and decodes every message in every way.
func FuzzNetlink(f *testing.F) {
	message := func(typ uint16, body []byte) []byte {
		b := make([]byte, 16, 16+len(body))
		native.PutUint32(b, uint32(16+len(body)))
		native.PutUint16(b[4:], typ)
		return append(b, body...)
	}
	inet := make([]byte, 72+8)
	inet[0], inet[1] = 2, 1
	native.PutUint16(inet[72:], 8)
	native.PutUint16(inet[74:], 2)
	f.Add(append(message(20, inet), message(3, make([]byte, 4))...))
	f.Add(message(16, append([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8, 0, 3, 0, 'l', 'o', 0, 0)))
	f.Add(message(256, []byte{2, 0, 0, 0, 24, 0, 1, 128, 20, 0, 1, 128, 8, 0, 1, 0, 10, 0, 0, 1, 8, 0, 2, 0, 10, 0, 0, 2}))
	f.Add(message(2, []byte{0xfe, 0xff, 0xff, 0xff}))
	f.Fuzz(func(t *testing.T, b []byte) {
		decoders := queries()
		_, _, _ = messages(b, 0, func(_ uint16, body []byte) error { // errors are the kernel's, any is right
			for _, q := range decoders {
				if s, ok := q.decode(body); ok && (s.Family == "" || s.Observed == 0) {
					t.Fatalf("%s: %+v", q.need, s)
				}
			}
			decodeAddress(body)
			decodeInterface(body)
			decodeRoute(body, false)
			decodeRoute(body, true)
			decodeNeighbour(body)
			decodeConnection(body)
			return nil
		})
	})
}
