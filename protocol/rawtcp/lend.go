package rawtcp

// Lender lends room to read into at the moment when there is something to read.
type Lender interface {
	// Lend returns room for at least a byte.
	Lend() []byte
	// Return takes the room back of which nothing was used. Lend is called again later.
	Return()
}
