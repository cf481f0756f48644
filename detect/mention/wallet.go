package mention

import (
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"strings"

	"golang.org/x/crypto/sha3"
)

// Forms of wallets: base58check of https://en.bitcoin.it/wiki/Base58Check_encoding, bech32 of BIP 173 and BIP 350, EIP-55, and Monero's
// https://docs.getmonero.org/public-address/standard-address/.

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// versions are the first bytes of addresses in base58check.
var versions = map[byte]string{0x00: "Bitcoin", 0x05: "Bitcoin", 0x1e: "Dogecoin", 0x30: "Litecoin", 0x32: "Litecoin", 0x41: "Tron"}

// wallet looks whether a word is an address of a wallet, and says how long it is; 0 if it is none.
func (f *finder) wallet(i, n int) int {
	w := string(f.b[i : i+n])
	form, sure := "", true
	switch c := w[0]; {
	case c == '0' && n == 42 && w[1] == 'x':
		form, sure = ethereum(w)
	case (c == '4' || c == '8') && (n == 95 || n == 106):
		form = monero(w)
	case n <= 35 && strings.IndexByte("13DLMT", c) >= 0:
		form = base58check(w)
	case n >= 42 && n <= 90 && (c == 'b' || c == 'B' || c == 'l' || c == 'L'):
		form = segwit(w)
	}
	if form == "" {
		return 0
	}
	f.take(Mention{Kind: Wallet, Offset: i, Length: n, Value: w, Raw: w, Form: form, Sure: sure})
	return n
}

func base58check(s string) string {
	b := decode58(s, 25)
	if b == nil {
		return ""
	}
	sum := sha256.Sum256(b[:21])
	sum = sha256.Sum256(sum[:])
	if string(sum[:4]) != string(b[21:]) {
		return ""
	}
	return versions[b[0]]
}

// decode58 decodes a number in base 58 to exactly size bytes, nil if it isn't one of that size.
func decode58(s string, size int) []byte {
	n, radix := new(big.Int), big.NewInt(58)
	for i := range len(s) {
		d := strings.IndexByte(base58, s[i])
		if d < 0 {
			return nil
		}
		n.Add(n.Mul(n, radix), big.NewInt(int64(d)))
	}
	if n.BitLen() > 8*size {
		return nil
	}
	return n.FillBytes(make([]byte, size))
}

// monero decodes blocks of 11 letters to 8 bytes each, and compares the Keccak hash at the end.
func monero(s string) string {
	var raw []byte
	sizes := map[int]int{11: 8, 7: 5, 6: 4, 2: 1, 3: 2, 5: 3, 9: 6, 10: 7}
	for len(s) > 0 {
		k := min(11, len(s))
		b := decode58(s[:k], sizes[k])
		if b == nil {
			return ""
		}
		raw = append(raw, b...)
		s = s[k:]
	}
	if len(raw) < 69 {
		return ""
	}
	body, sum := raw[:len(raw)-4], raw[len(raw)-4:]
	h := sha3.NewLegacyKeccak256()
	h.Write(body)
	if string(h.Sum(nil)[:4]) != string(sum) {
		return ""
	}
	switch body[0] {
	case 18, 19, 42: // an address of the main network, one with a payment id, a subaddress
		return "Monero"
	}
	return ""
}

// ethereum verifies the case of letters (EIP-55). Addresses all in small or all in large letters have no checksum.
func ethereum(s string) (form string, sure bool) {
	digits := s[2:]
	for i := range len(digits) {
		if !hexByte[digits[i]] {
			return "", false
		}
	}
	small := strings.ToLower(digits)
	if digits == small || digits == strings.ToUpper(digits) {
		if strings.Count(small, small[:1]) > 20 {
			return "", false // zeros, or a mask
		}
		return "Ethereum", false
	}
	h := sha3.NewLegacyKeccak256()
	h.Write([]byte(small))
	sum := hex.EncodeToString(h.Sum(nil))
	for i := range len(digits) {
		if c := small[i]; c >= 'a' && (sum[i] >= '8') != (digits[i] != c) {
			return "", false
		}
	}
	return "Ethereum", true
}

// segwit verifies bech32 and bech32m.
func segwit(s string) string {
	const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	low := strings.ToLower(s)
	if low != s && strings.ToUpper(s) != s {
		return ""
	}
	coin, hrp := "Bitcoin", "bc"
	if strings.HasPrefix(low, "ltc1") {
		coin, hrp = "Litecoin", "ltc"
	} else if !strings.HasPrefix(low, "bc1") {
		return ""
	}
	chk := uint32(1)
	step := func(v byte) {
		top := chk >> 25
		chk = (chk&0x1ffffff)<<5 ^ uint32(v)
		for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	for i := range len(hrp) {
		step(hrp[i] >> 5)
	}
	step(0)
	for i := range len(hrp) {
		step(hrp[i] & 31)
	}
	for i := len(hrp) + 1; i < len(low); i++ {
		v := strings.IndexByte(charset, low[i])
		if v < 0 {
			return ""
		}
		step(byte(v))
	}
	if chk != 1 && chk != 0x2bc830a3 {
		return ""
	}
	return coin
}
