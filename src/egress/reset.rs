//! The refusal of a connection: the reset that a kernel answers a SYN with where nobody listens (RFC 9293, section 3.10.7.1).

/// Of IPv4 and of TCP, without options.
const HEADER: usize = 20;
const TCP: u8 = 6;
const RESET_AND_ACK: u8 = 0x14;

/// The packet that answers `syn`, both from their network header on. `None` if it is no SYN of TCP over IPv4.
pub fn answer_to(syn: &[u8]) -> Option<[u8; 2 * HEADER]> {
    let head = syn.first_chunk::<HEADER>().filter(|head| head[0] >> 4 == 4 && head[9] == TCP)?;
    let start = usize::from(head[0] & 15) * 4;
    let asked = syn.get(start.max(HEADER)..)?.first_chunk::<HEADER>()?;
    let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let headers = start + usize::from(asked[12] >> 4) * 4;
    // A SYN counts as one byte, and what it carries follows.
    let taken = 1 + u32::try_from(total.saturating_sub(headers)).ok()?;
    let sequence = u32::from_be_bytes([asked[4], asked[5], asked[6], asked[7]]);

    let mut ip = [0; HEADER];
    ip[..10].copy_from_slice(&[0x45, 0, 0, 2 * HEADER as u8, 0, 0, 0x40, 0, 64, TCP]);
    ip[12..16].copy_from_slice(&head[16..20]);
    ip[16..20].copy_from_slice(&head[12..16]);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum);

    let mut tcp = [0; HEADER];
    tcp[..2].copy_from_slice(&asked[2..4]);
    tcp[2..4].copy_from_slice(&asked[..2]);
    tcp[8..12].copy_from_slice(&sequence.wrapping_add(taken).to_be_bytes());
    tcp[12..14].copy_from_slice(&[(HEADER as u8 / 4) << 4, RESET_AND_ACK]);
    let sum = checksum(&[&ip[12..20], &[0, TCP, 0, HEADER as u8], &tcp]);
    tcp[16..18].copy_from_slice(&sum);

    let mut packet = [0; 2 * HEADER];
    packet[..HEADER].copy_from_slice(&ip);
    packet[HEADER..].copy_from_slice(&tcp);
    Some(packet)
}

/// The checksum of both protocols (RFC 1071) over pieces of even length.
fn checksum(pieces: &[&[u8]]) -> [u8; 2] {
    let words = pieces.iter().flat_map(|piece| piece.chunks_exact(2));
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn syn(options: usize, payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 40 + options + payload];
        let total = packet.len() as u16;
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[9] = TCP;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 203, 0, 113, 7]);
        packet[20..28].copy_from_slice(&[0xc0, 1, 1, 0xbb, 0xff, 0xff, 0xff, 0xfe]);
        packet[32] = ((20 + options) as u8 / 4) << 4;
        packet[33] = 2;
        packet
    }

    #[test]
    fn a_syn_is_answered_by_a_reset_that_its_sender_takes() {
        let answer = answer_to(&syn(20, 3)).expect("an answer");
        assert_eq!(
            answer[12..20],
            [203, 0, 113, 7, 10, 0, 0, 1],
            "from whom it was for, to whom it was from"
        );
        assert_eq!(answer[20..24], [1, 0xbb, 0xc0, 1], "ports");
        assert_eq!(
            answer[28..32],
            [0, 0, 0, 2],
            "all that was sent is acknowledged, around the end of the numbers"
        );
        assert_eq!(answer[33], RESET_AND_ACK);
        // Summed up with their checksums, both are all ones (RFC 1071).
        assert_eq!(checksum(&[&answer[..20]]), [0, 0]);
        assert_eq!(checksum(&[&answer[12..20], &[0, TCP, 0, 20], &answer[20..]]), [0, 0]);
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet in proptest::collection::vec(any::<u8>(), 0..128)) {
            answer_to(&packet);
        }
    }
}
