package route

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Digest is a hash of the schema of a service. Two processes with the same digest have the same schema of its
// methods and of all messages that these carry, even if they read it from different files. It is empty if no
// schema has the service.
func (s *Schemas) Digest(service string) string {
	of := s.Of(service)
	if known, _ := s.learned.digests.Load(service); known != nil && known.(digested).of == of { //nolint:forcetypeassert // nothing else is in it
		return known.(digested).digest //nolint:forcetypeassert // likewise
	}
	if of.given(service) == nil {
		return ""
	}
	hash := sha256.New()
	d := digester{hash, map[protoreflect.FullName]bool{}}
	for _, m := range of.Methods(service) {
		md := m.Descriptor
		d.say("rpc", md.Name(), md.IsStreamingClient(), md.IsStreamingServer(), m.Repeatable)
		d.message(md.Input())
		d.message(md.Output())
	}
	digest := hex.EncodeToString(hash.Sum(nil)[:16])
	s.learned.digests.Store(service, digested{of, digest})
	return digest
}

// digested is a digest that was made before.
type digested struct {
	of     *Schemas
	digest string
}

// digester writes the parts of a schema that the digest depends on, each message once.
type digester struct {
	out  io.Writer
	seen map[protoreflect.FullName]bool
}

func (d digester) say(words ...any) { _, _ = fmt.Fprintln(d.out, words...) }

func (d digester) message(md protoreflect.MessageDescriptor) {
	d.say("message", md.FullName())
	if d.seen[md.FullName()] {
		return
	}
	d.seen[md.FullName()] = true
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		d.say(f.Number(), f.Name(), f.JSONName(), f.Kind(), f.Cardinality())
		if f.Message() != nil {
			d.message(f.Message())
		}
		if f.Enum() != nil {
			values := f.Enum().Values()
			for j := range values.Len() {
				d.say(values.Get(j).Number(), values.Get(j).Name())
			}
		}
	}
}
