//! Certificates of clients: whose they are.
//!
//! Whether a certificate is good, and the client has its key, was found out when the connection was made. Here it is only read.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::proof::{Opinion, Proof, Proven};
use crate::config::CertificateUser;
use crate::password::Users;

/// The attribute that names a certificate: the SHA-256 of it, in hexadecimal digits.
const FINGERPRINT: &str = "certificate";
/// Bytes that a name may have, as everything with a length in front of it in MQTT.
const NAME_BYTES_MAXIMUM: usize = 65_535;

/// Whose certificate it is, by what of it is the user name. What the file of users says of that user holds for it.
pub(super) fn judge(der: &[u8], user: CertificateUser, users: Option<&Users>) -> Opinion {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Opinion::Refuse("the certificate cannot be read");
    };
    let fingerprint = fingerprint(der);
    let name = match user {
        CertificateUser::None => return Opinion::Unknown,
        CertificateUser::Fingerprint => Some(fingerprint.clone()),
        CertificateUser::CommonName => common_name(&certificate),
        CertificateUser::Dns | CertificateUser::Email | CertificateUser::Uri => {
            alternative_name(&certificate, user)
        }
    };
    let is_name =
        |name: &String| !name.is_empty() && !name.contains('\0') && name.len() <= NAME_BYTES_MAXIMUM;
    let Some(name) = name.filter(is_name) else {
        return Opinion::Refuse("the certificate does not say whose it is");
    };
    let known = users.and_then(|users| users.get(&name)).cloned();
    let mut proven = match known {
        Some(account) => Proven::of_user(account, Proof::Certificate(user)),
        None => Proven::of_name(name.into(), Proof::Certificate(user)),
    };
    let own = (Arc::from(FINGERPRINT), Arc::from(fingerprint));
    proven.attributes = proven.attributes.iter().cloned().chain([own]).collect();
    proven.expires = not_after(&certificate);
    Opinion::Accept(proven)
}

/// What a certificate says of itself, for whoever is asked about its owner: the Common Name, if there is one, and the fingerprint.
pub(super) fn names(der: &[u8]) -> (Option<String>, String) {
    let certificate = X509Certificate::from_der(der).ok();
    (certificate.and_then(|(_, certificate)| common_name(&certificate)), fingerprint(der))
}

/// The one Common Name; several say nothing.
fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then(|| name.to_owned())
}

/// The first name of this kind.
fn alternative_name(certificate: &X509Certificate<'_>, kind: CertificateUser) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match (kind, name) {
        (CertificateUser::Dns, GeneralName::DNSName(name))
        | (CertificateUser::Email, GeneralName::RFC822Name(name))
        | (CertificateUser::Uri, GeneralName::URI(name)) => Some((*name).to_owned()),
        _ => None,
    })
}

fn fingerprint(der: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Until when it holds: a connection does not outlive it.
fn not_after(certificate: &X509Certificate<'_>) -> Option<SystemTime> {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn proven(der: &str, user: CertificateUser, users: Option<&Users>) -> Result<Proven, &'static str> {
        match judge(&BASE64_STANDARD.decode(der).unwrap(), user, users) {
            Opinion::Accept(proven) => Ok(proven),
            Opinion::Refuse(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_part_of_the_certificate_is_the_user_name() {
        for (user, expected) in [
            (CertificateUser::CommonName, "door-1"),
            (CertificateUser::Dns, "door-1.example"),
            (CertificateUser::Email, "anna@example.org"),
            (CertificateUser::Uri, "urn:dev:1"),
            (CertificateUser::Fingerprint, FINGERPRINT_OF_DOOR),
        ] {
            let proven = proven(DOOR, user, None).unwrap();
            assert_eq!(&*proven.user, expected);
            let attributes: Vec<_> =
                proven.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(attributes, [("certificate", FINGERPRINT_OF_DOOR)]);
            assert_eq!(proven.expires, Some(UNIX_EPOCH + Duration::from_secs(END_OF_DOOR)));
        }
        assert!(matches!(judge(&[], CertificateUser::CommonName, None), Opinion::Refuse(_)));
        let der = BASE64_STANDARD.decode(DOOR).unwrap();
        assert!(matches!(judge(&der, CertificateUser::None, None), Opinion::Unknown));
        assert!(matches!(judge(&der[..100], CertificateUser::CommonName, None), Opinion::Refuse(_)));
    }

    // [attack: tls-client-certificate]
    #[test]
    fn a_certificate_of_several_or_of_nobody_is_refused() {
        for user in [CertificateUser::CommonName, CertificateUser::Dns, CertificateUser::Email] {
            assert!(proven(TWO_NAMES, user, None).unwrap_err().contains("whose"), "{user:?}");
        }
    }

    #[test]
    fn the_file_of_users_says_more_of_a_user() {
        let text = "[users.door-1]\nno_password = true\ngroups = 'doors'\nclient_ids = 'door-*'\n";
        let users = Users::parse(Path::new("users.toml"), text).unwrap();
        let known = proven(DOOR, CertificateUser::CommonName, Some(&users)).unwrap();
        assert_eq!((known.attributes.len(), known.client_ids.len()), (2, 1));
        let unknown = proven(DOOR, CertificateUser::Dns, Some(&users)).unwrap();
        assert_eq!((unknown.attributes.len(), unknown.client_ids.len()), (1, 0));
    }

    const FINGERPRINT_OF_DOOR: &str = "40a2a684ee14084790c495a4916c77d76110d663285ce1193f450c8ca28f3fbb";
    const END_OF_DOOR: u64 = 4_949_457_784;
    /// Its key was thrown away.
    const DOOR: &str = "\
        MIIBszCCAVigAwIBAgIUA3cy3dO8F1SfHI05dvfaVuBMscIwCgYIKoZIzj0EAwIwIzEPMA0GA1UEAwwGZG9vci0xMR\
        AwDgYDVQQKDAdFeGFtcGxlMCAXDTI2MTEyODA5MjMwNFoYDzIxMjYxMTA0MDkyMzA0WjAjMQ8wDQYDVQQDDAZkb29y\
        LTExEDAOBgNVBAoMB0V4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARigG54onhURr+8kTr8DFcposuWph\
        Vk7PgphppPFtVAL1R7QfW6WnHcQ+cifjGQqblrvkXeU5P0R3I2YZGVCqc2o2gwZjBFBgNVHREEPjA8gg5kb29yLTEu\
        ZXhhbXBsZYINb3RoZXIuZXhhbXBsZYEQYW5uYUBleGFtcGxlLm9yZ4YJdXJuOmRldjoxMB0GA1UdDgQWBBRu02BLUV\
        0tIzsAR9qFpnzExx6SPTAKBggqhkjOPQQDAgNJADBGAiEAj6v5gT8L2ZhyZRuehb8e2Kgd0xJPSoNHOj7umBEHdiQC\
        IQDv9QKJVhfrMNdTAd2o2V7M+5ed90sYFtwmsqsEE2WcqQ==";
    /// With two Common Names, and nothing else.
    const TWO_NAMES: &str = "\
        MIIBUTCB9wIUXhKbAw6ipqGt34BxgLKCAfGesIIwCgYIKoZIzj0EAwIwKjEKMAgGA1UEAwwBYTEKMAgGA1UEAwwBYj\
        EQMA4GA1UECgwHRXhhbXBsZTAgFw0yNjExMjgwOTIzMDRaGA8yMTI2MTEwNDA5MjMwNFowKjEKMAgGA1UEAwwBYTEK\
        MAgGA1UEAwwBYjEQMA4GA1UECgwHRXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCcnbGq6L4Fuf5zRUi\
        t1UkoFHpvTBGdd/FaNhJJDamH2ZuNsW+uCw/uD04548huPEjdXOe0blqB30dPkdzodOCUwCgYIKoZIzj0EAwIDSQAw\
        RgIhAIxdOwu1OH8weEdwPR7mGHYNF6iJ0dZmiA0GVo3vLTn8AiEA+wWwp8I9Imbmi0axPNDVl+31e+qP13o9mpZ2KZ\
        gvxJs=";
}
