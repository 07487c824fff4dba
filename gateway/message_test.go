package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// A message is read whole, however long its caller said it was.
func TestReadMessage(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, size := range []int{0, 1, 4, 5, 511, 512, 513, maxTrust - 1, maxTrust, maxTrust + 1, 100_000, maxReplay + 1} {
		for _, said := range []int64{-1, int64(size)} {
			for _, announced := range []int{0, size - envelopeHead, 1 << 31} { // by gRPC's first bytes
				want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
				if size >= envelopeHead {
					binary.BigEndian.PutUint32(want[1:], uint32(announced))
				}
				if size == 0 && said == 0 { // it is not read
					continue
				}
				for _, inGRPC := range []bool{false, true} {
					got, err := readMessage(iotest.HalfReader(bytes.NewReader(want)), said, inGRPC)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes, of which %d were said: got %d and %v", size, said, len(got), err)
					}
					if got, err = readMessage(io.MultiReader(bytes.NewReader(want), iotest.ErrReader(broken)), said, inGRPC); !errors.Is(err, broken) || !bytes.Equal(got, want) {
						t.Errorf("%d bytes, and an error: got %d and %v", size, len(got), err)
					}
				}
			}
		}
	}
}

// What a caller says costs nothing before much of it has come.
func TestReadMessageTrustsLittle(t *testing.T) {
	t.Parallel()
	for _, inGRPC := range []bool{false, true} {
		said := int64(maxReplay)
		if inGRPC {
			said = -1
		}
		few := binary.BigEndian.AppendUint32([]byte{0}, maxReplay)
		got, err := readMessage(bytes.NewReader(append(few, make([]byte, 600)...)), said, inGRPC)
		if err != nil || cap(got) > 2*maxTrust {
			t.Errorf("inGRPC=%t: got room for %d bytes and %v, want at most %d", inGRPC, cap(got), err, 2*maxTrust)
		}
	}
}
