package punch

import "errors"

// Why no path was found, in words for receipts.
var (
	ErrBothHard  = errors.New("both NATs give every destination another port")
	ErrNoAddress = errors.New("the other side named no UDP address that this node may send to")
	ErrUnwanted  = errors.New("the other side does not take UDP")
	ErrNoAnswer  = errors.New("the other side did not answer the request in time")
	ErrSilent    = errors.New("nothing of the other side came through")
	ErrOneWay    = errors.New("the other side was heard, but did not hear this node")
	ErrNotChosen = errors.New("a path was found, but the other side did not choose it")
	ErrPathDied  = errors.New("the path that was chosen carries no more")
	ErrNotFound  = errors.New("one NAT gives every destination another port, and none of the ports tried was the one")
	ErrSockets   = errors.New("this NAT gives every destination another port, and the system gave no sockets to find one with")
)
