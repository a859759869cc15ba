"""Certificates by `openssl`, as docs/guides/tls.md makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
CA_CONFIG = """[ca]
default_ca=own
[own]
database=index.txt
crlnumber=crlnumber
default_md=sha256
default_crl_days=3650
"""


class Pair(NamedTuple):
    """Files with a certificate and its key."""

    certificate: str
    key: str


class Authority:
    """An authority in a folder of its own, with a server's certificate and a list of what is revoked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl("req", "-x509", *KEY, "-days", "10", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA")
        self.file = str(folder / "ca.pem")
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2"
        self.server = self.certify("server", names)
        self.client = self.certify("client", "extendedKeyUsage=clientAuth")
        self.revoked = self.certify("revoked", "extendedKeyUsage=clientAuth")
        self.expired = self.certify("expired", "extendedKeyUsage=clientAuth", days=-1)
        # Who signs for himself.
        self._openssl("req", "-x509", *KEY, "-days", "10", "-keyout", "self.key", "-out", "self.pem", "-subj", "/CN=I")
        self.stranger = Pair(str(folder / "self.pem"), str(folder / "self.key"))
        (folder / "index.txt").touch()
        (folder / "crlnumber").write_text("01\n")
        (folder / "ca.cnf").write_text(CA_CONFIG)
        own = ["ca", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.pem"]
        self._openssl(*own, "-revoke", self.revoked.certificate)
        self._openssl(*own, "-gencrl", "-out", "crl.pem")

    def certify(self, name: str, extensions: str, days: int = 10) -> Pair:
        """A certificate with its key."""
        (self.folder / f"{name}.ext").write_text(extensions + "\n")
        self._openssl("req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        self._openssl(*signed, "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        return Pair(str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key"))

    def listeners(self) -> str:
        """The configuration of a broker with every transport."""
        tls = f'tls.certificate = "{self.server.certificate}"\ntls.key = "{self.server.key}"\n'
        mutual = f'tls.client_ca = "{self.file}"\ntls.crl = "{self.folder / "crl.pem"}"\n'
        return (
            f'[listeners.tls]\nbind = "tls://127.0.0.1:0"\n{tls}'
            f'[listeners.mutual]\nbind = "tls://127.0.0.2:0"\n{tls}{mutual}'
            '[listeners.ws]\nbind = "ws://127.0.0.1:0"\n'
            f'[listeners.wss]\nbind = "wss://127.0.0.1:0"\n{tls}'
        )

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, input="y\ny\n", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
