package protocol

// UnverifiedPayload opens the payload of a message whose signature has not been checked: one that carries its sender's own
// certificate inside the seal. Nothing in it may be believed before Open has said so.
func (e *Envelope) UnverifiedPayload(to *Receiver) ([]byte, error) {
	if e.Receiver != to.ID {
		return nil, ErrCertificate
	}
	return e.payload(to)
}
