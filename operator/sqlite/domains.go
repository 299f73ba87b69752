package sqlite

import (
	"culvert/operator/registry"
	"culvert/protocol"
)

const domainColumns = "SELECT number, name, secret, created, banned, own FROM domains"

func scanDomain(s scanner) (d registry.Domain, err error) {
	err = s.Scan(&d.Number, &d.Name, fixed(d.Secret[:]), stamp{&d.Created}, &d.Banned, &d.Own)
	return d, err
}

// Domain is the domain of that number.
func (t *Tx) Domain(n protocol.Domain) (registry.Domain, error) {
	return one(t, scanDomain, domainColumns+" WHERE number = ?", n)
}

// DomainByName is the domain of that name, in any case of letters.
func (t *Tx) DomainByName(name string) (registry.Domain, error) {
	return one(t, scanDomain, domainColumns+" WHERE folded = ?", protocol.FoldName(name))
}

// Domains are all domains by name.
func (t *Tx) Domains() ([]registry.Domain, error) {
	return all(t, scanDomain, domainColumns+" ORDER BY folded")
}

// AddDomain registers a domain.
func (t *Tx) AddDomain(d registry.Domain) error {
	return t.exec("INSERT INTO domains (number, name, folded, secret, created, banned, own) VALUES (?, ?, ?, ?, ?, ?, ?)",
		d.Number, d.Name, protocol.FoldName(d.Name), d.Secret[:], millis(d.Created), d.Banned, d.Own)
}

// SetDomain changes what may change of a domain: banned and own.
func (t *Tx) SetDomain(d registry.Domain) error {
	return t.execOne("UPDATE domains SET banned = ?, own = ? WHERE number = ?", d.Banned, d.Own, d.Number)
}

// DomainKeys are the domain's keys, newest epoch first.
func (t *Tx) DomainKeys(d protocol.Domain) ([]registry.DomainKey, error) {
	return all(t, func(s scanner) (k registry.DomainKey, err error) {
		err = s.Scan(&k.Epoch, fixed(k.Key[:]), stamp{&k.From})
		return k, err
	}, "SELECT epoch, key, since FROM domain_keys WHERE domain = ? ORDER BY epoch DESC", d)
}

// AddDomainKey keeps a further epoch's key.
func (t *Tx) AddDomainKey(d protocol.Domain, k registry.DomainKey) error {
	return t.exec("INSERT INTO domain_keys (domain, epoch, key, since) VALUES (?, ?, ?, ?)", d, k.Epoch, k.Key[:], millis(k.From))
}

// DeleteDomainKey forgets a key that nothing has been sealed under.
func (t *Tx) DeleteDomainKey(d protocol.Domain, epoch uint32) error {
	return t.execOne("DELETE FROM domain_keys WHERE domain = ? AND epoch = ?", d, epoch)
}
