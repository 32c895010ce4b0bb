"""Certificates, keys and tokens for tests, made on the spot."""

import datetime as dt
import hashlib
import ipaddress
import json
import time
from dataclasses import dataclass

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

AUDIENCE = "mekiki-test"
ISSUER_KEY = rsa.generate_private_key(65537, 2048)
CURVE_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER_KEY = rsa.generate_private_key(65537, 2048)


class Authority:
    """A CA that signs for 127.0.0.1."""

    def __init__(self, name="Plant CA"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), x509.BasicConstraints(True, None))

    def write(self, path):
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, folder, name, hosts=("localhost", "127.0.0.1")):
        """Writes a new certificate and its key, each in place of the one before."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), x509.SubjectAlternativeName(list(map(_host, hosts))))
        pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(write_key(key))
        return pair

    def _sign(self, subject, public_key, extension):
        now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day)
        return builder.not_valid_after(now + day).add_extension(extension, True).sign(self.key, hashes.SHA256())


@dataclass(frozen=True)
class Pair:
    cert: object
    key: object


def _host(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def write_key(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key=ISSUER_KEY):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_jwks(path, keys=None):
    keys = {"rsa-1": ISSUER_KEY, "ec-1": CURVE_KEY} if keys is None else keys
    listed = []
    for kid, key in keys.items():
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        listed.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
    path.write_text(json.dumps({"keys": listed}))
    return path


def make_jwt(key=ISSUER_KEY, algorithm="RS256", kid="rsa-1", without=(), **claims):
    now = int(time.time())
    claims = {"sub": "line-3", "aud": AUDIENCE, "exp": now + 3600, "nbf": now - 5, "roles": ["line"], **claims}
    for claim in without:
        del claims[claim]
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def write_tokens(path, *entries):
    """Each entry is a token, roles and perhaps a tenant."""
    path.write_text(json.dumps([hashed(*entry) for entry in entries]))
    return path


def hashed(token, roles, tenant=None, unlimited=None):
    entry = {"sha256": hashlib.sha256(token.encode()).hexdigest(), "subject": f"{token}-subject", "roles": roles}
    return entry | ({"tenant": tenant} if tenant else {}) | ({"unlimited": True} if unlimited else {})


def bearer(token):
    return (("authorization", f"Bearer {token}"),)
