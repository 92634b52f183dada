// A peer that knows nothing of midge: quic-go and Go's own TLS, with certificates by the libp2p specification.
//
//	peer dial SEED ADDRESS ID    links to that peer, and talks to it as a NATS client
//	peer listen SEED             takes one link, and says who it is and what its first stream is for
//
// SEED is 64 hexadecimal digits, ID a peer's public key in hexadecimal.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/lucas-clemente/quic-go"
)

var extension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 53594, 1, 1}

const context_ = "libp2p-tls-handshake:"

type signedKey struct {
	PublicKey []byte
	Signature []byte
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func certificate(host ed25519.PrivateKey) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	fail(err)
	public := append([]byte{8, 1, 18, 32}, host.Public().(ed25519.PublicKey)...)
	value, err := asn1.Marshal(signedKey{public, ed25519.Sign(host, append([]byte(context_), spki...))})
	fail(err)
	template := &x509.Certificate{
		SerialNumber:    big.NewInt(time.Now().UnixNano()),
		Subject:         pkix.Name{SerialNumber: "go"},
		NotBefore:       time.Now().Add(-time.Hour),
		NotAfter:        time.Now().Add(24 * time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: extension, Value: value}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	fail(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Who a certificate proves to be at the other side: a public key in hexadecimal.
func peerOf(raw [][]byte) (string, error) {
	if len(raw) != 1 {
		return "", errors.New("not one certificate")
	}
	parsed, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return "", err
	}
	if err := parsed.CheckSignature(parsed.SignatureAlgorithm, parsed.RawTBSCertificate, parsed.Signature); err != nil {
		return "", err
	}
	if now := time.Now(); now.Before(parsed.NotBefore) || now.After(parsed.NotAfter) {
		return "", errors.New("it does not hold now")
	}
	for _, one := range parsed.Extensions {
		if !one.Id.Equal(extension) {
			continue
		}
		var signed signedKey
		if rest, err := asn1.Unmarshal(one.Value, &signed); err != nil || len(rest) != 0 {
			return "", errors.New("not a signed key")
		}
		key := bytes.TrimPrefix(signed.PublicKey, []byte{8, 1, 18, 32})
		message := append([]byte(context_), parsed.RawSubjectPublicKeyInfo...)
		if len(key) != 32 || !ed25519.Verify(key, message, signed.Signature) {
			return "", errors.New("the peer has not signed it")
		}
		return hex.EncodeToString(key), nil
	}
	return "", errors.New("no peer's key")
}

func config(seed, expected string) *tls.Config {
	bytes, err := hex.DecodeString(seed)
	fail(err)
	return &tls.Config{
		Certificates:       []tls.Certificate{certificate(ed25519.NewKeyFromSeed(bytes))},
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"bifrost"},
		InsecureSkipVerify: true,
		ClientAuth:         tls.RequireAnyClientCert,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			peer, err := peerOf(raw)
			if err == nil && expected != "" && peer != expected {
				return errors.New("another peer than expected")
			}
			return err
		},
	}
}

func head(protocol string) []byte {
	return append([]byte{byte(len(protocol) + 2), 10, byte(len(protocol))}, protocol...)
}

func dial(seed, address, expected string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	link, err := quic.DialAddrContext(ctx, address, config(seed, expected), &quic.Config{})
	fail(err)
	stream, err := link.OpenStreamSync(ctx)
	fail(err)
	_, err = stream.Write(append(head("nats.io/2/client"), "CONNECT {\"verbose\":false}\r\nPING\r\n"...))
	fail(err)
	heard, room := "", make([]byte, 4096)
	for !strings.Contains(heard, "PONG\r\n") {
		count, err := stream.Read(room)
		heard += string(room[:count])
		fail(err)
	}
	fmt.Printf("INFO %v PONG\n", strings.HasPrefix(heard, "INFO {"))
	fail(link.CloseWithError(0, ""))
}

func listen(seed string) {
	listener, err := quic.ListenAddr("127.0.0.1:0", config(seed, ""), &quic.Config{})
	fail(err)
	fmt.Printf("address %s\n", listener.Addr())
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	link, err := listener.Accept(ctx)
	fail(err)
	raw := [][]byte{}
	for _, one := range link.ConnectionState().TLS.PeerCertificates {
		raw = append(raw, one.Raw)
	}
	peer, err := peerOf(raw)
	fail(err)
	fmt.Printf("peer %s\n", peer)
	stream, err := link.AcceptStream(ctx)
	fail(err)
	length := make([]byte, 1)
	_, err = io.ReadFull(stream, length)
	fail(err)
	message := make([]byte, length[0])
	_, err = io.ReadFull(stream, message)
	fail(err)
	fmt.Printf("stream %s\n", message[2:])
}

func main() {
	switch {
	case len(os.Args) == 5 && os.Args[1] == "dial":
		dial(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 3 && os.Args[1] == "listen":
		listen(os.Args[2])
	default:
		fail(errors.New("peer dial SEED ADDRESS ID | peer listen SEED"))
	}
}
