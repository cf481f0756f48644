package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// identities are those who speak with the API server by a certificate: their user and group.
var identities = []struct{ file, user, group string }{
	{"admin", "lab-admin", "system:masters"},
	{"controller-manager", "system:kube-controller-manager", ""},
	{"scheduler", "system:kube-scheduler", ""},
	{"kubelet", "system:node:" + NodeName, "system:nodes"},
}

// certificates makes the cluster's authority, the API server's certificate, one for each identity, and their kubeconfigs.
func (c cluster) certificates() error {
	if exists(filepath.Join(c.PKI, "complete")) {
		return nil
	}
	caKey, err := c.key("ca")
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sherd-lab"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if err := c.certificate("ca", ca, ca, &caKey.PublicKey, caKey); err != nil {
		return err
	}
	issue := func(n int64, file string, t *x509.Certificate) error {
		key, err := c.key(file)
		if err != nil {
			return err
		}
		t.SerialNumber, t.NotBefore, t.NotAfter, t.KeyUsage = big.NewInt(n), ca.NotBefore, ca.NotAfter, x509.KeyUsageDigitalSignature
		return c.certificate(file, t, ca, &key.PublicKey, caKey)
	}
	if _, err := c.key("accounts"); err != nil {
		return err
	}
	server := &x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.ParseIP(c.Node), net.ParseIP("10.91.0.1"), net.IPv4(127, 0, 0, 1)},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}}
	if err := issue(2, "apiserver", server); err != nil {
		return err
	}
	for i, id := range identities {
		t := &x509.Certificate{Subject: pkix.Name{CommonName: id.user}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if id.group != "" {
			t.Subject.Organization = []string{id.group}
		}
		if err := issue(int64(3+i), id.file, t); err != nil {
			return err
		}
		if err := c.kubeconfig(id.file, id.user); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(c.PKI, "complete"), nil, 0o600)
}

func (c cluster) key(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(filepath.Join(c.PKI, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func (c cluster) certificate(name string, t, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, signer)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.PKI, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// kubeconfig holds the certificates themselves, as an administrator's does, so that the file alone is enough.
func (c cluster) kubeconfig(name, user string) error {
	var data [3]string
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		b, err := os.ReadFile(filepath.Join(c.PKI, file))
		if err != nil {
			return err
		}
		data[i] = base64.StdEncoding.EncodeToString(b)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: "https://%s", certificate-authority-data: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: %q}}]
users: [{name: %q, user: {client-certificate-data: %s, client-key-data: %s}}]
`, c.address, data[0], user, user, data[1], data[2])
	return os.WriteFile(filepath.Join(c.Run, name+".kubeconfig"), []byte(text), 0o600)
}
