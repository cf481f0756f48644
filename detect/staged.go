package detect

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// maxEncoded bounds environments that are looked for in encoded form.
const maxEncoded = 1 << 20

// encodedForms are the hashes of b as the usual tools write it when it is to pass as text: in base64 in one line, or in lines of 64 bytes as
// openssl and PEM have them, or of 76 as coreutils and MIME do, and in hexadecimal digits.
func encodedForms(b []byte) map[string]string {
	if len(b) > maxEncoded {
		return nil
	}
	out := map[string]string{}
	add := func(text, form string) {
		for _, t := range []string{text, text + "\n"} {
			sum := sha256.Sum256([]byte(t))
			out[hex.EncodeToString(sum[:])] = form
		}
	}
	text := base64.StdEncoding.EncodeToString(b)
	add(text, "base64")
	add(strings.TrimRight(text, "="), "base64")
	add(base64.RawURLEncoding.EncodeToString(b), "base64")
	for _, width := range []int{64, 76} {
		add(folded(text, width), "base64")
	}
	digits := hex.EncodeToString(b)
	add(digits, "hexadecimal digits")
	add(strings.ToUpper(digits), "hexadecimal digits")
	return out
}

// folded breaks text into lines; the last has no end of line.
func folded(text string, width int) string {
	var out strings.Builder
	for len(text) > width {
		out.WriteString(text[:width])
		out.WriteByte('\n')
		text = text[width:]
	}
	out.WriteString(text)
	return out.String()
}

// environments maps the hashes of processes' environments, as they are and encoded, to whose they are. Of several that are the same it is
// the process with the lowest number.
func (f *Facts) environments() map[string]Staged {
	out := map[string]Staged{}
	for i := len(f.Processes) - 1; i >= 0; i-- {
		p := &f.Processes[i]
		for sum, form := range p.EnvForms {
			out[sum] = Staged{PID: p.PID, Form: form}
		}
		out[p.EnvHash] = Staged{PID: p.PID}
	}
	delete(out, "")
	return out
}
