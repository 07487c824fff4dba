package wire

// Come is what has come on a connection and was not read.
type Come int

// Of Something, TLS may make anything, also the end.
const (
	Nothing Come = iota
	Something
	End
)
