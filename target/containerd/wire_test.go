package containerd

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// sample is a container as containerd 1.6 sends it, with a map, a nested message, and a field of a type that is skipped.
func sample() []byte {
	str := func(b []byte, num protowire.Number, s []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), s)
	}
	entry := func(k, v string) []byte { return str(str(nil, 1, []byte(k)), 2, []byte(v)) }
	var b []byte
	b = str(b, 1, []byte("web"))
	b = str(b, 2, entry("k", "v"))
	b = str(b, 2, entry("empty", ""))
	b = str(b, 3, []byte("registry.test/lab/goweb:1"))
	b = str(b, 4, entry("io.containerd.runc.v2", ""))
	b = str(b, 5, str(str(nil, 1, []byte("types.containerd.io/opencontainers/runtime-spec/1/Spec")), 2, []byte(`{"ociVersion":"1.0.2"}`)))
	b = str(b, 8, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1795481270))
	b = protowire.AppendFixed64(protowire.AppendTag(b, 99, protowire.Fixed64Type), 7)
	return str(b, 10, str(str(nil, 1, []byte("io.cri-containerd.container.metadata")), 2, str(nil, 2, []byte("{}"))))
}

func TestDecodeContainer(t *testing.T) {
	c, err := decodeContainer(sample())
	if err != nil {
		t.Fatal(err)
	}
	if c.id != "web" || c.labels["k"] != "v" || len(c.labels) != 2 || c.runtime != "io.containerd.runc.v2" || c.created.Unix() != 1795481270 ||
		string(c.spec.value) != `{"ociVersion":"1.0.2"}` || string(c.extensions["io.cri-containerd.container.metadata"].value) != "{}" {
		t.Errorf("%+v", c)
	}
	if _, err := decodeContainer(sample()[:20]); err == nil {
		t.Error("a cut message was taken")
	}
}

func FuzzWire(f *testing.F) {
	f.Add(sample())
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		// None may panic; an error is as good as a result.
		_, _ = decodeContainer(b)
		_, _ = decodeTask(b)
		_, _ = decodeMount(b)
		_, _ = decodeInfo(b)
		_, _ = decodeDescriptor(b)
		_, _ = each(b, 1, decodeContainer)
		rest := int64(1 << 20)
		r := bytes.NewReader(b)
		for {
			m, err := message(r, &rest)
			if err != nil {
				break
			}
			if len(m) > len(b) {
				t.Fatal("a message longer than its input")
			}
		}
	})
}
