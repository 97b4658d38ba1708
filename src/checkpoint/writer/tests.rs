use super::*;
use crate::Db;
use crate::blocking::block_on;

/// Places and writes a node of so many pages full of one byte.
fn write(writer: &mut Writer<'_>, pages: u16, fill: u8) -> NodeRef {
    let mut bytes = vec![fill; usize::from(pages) * PAGE_BYTES];
    bytes[0] = 1; // as in a leaf
    let page = writer.place(pages);
    let node = NodeRef::of(&bytes, page, &writer.engine.file_id);
    writer.write(node, &bytes);
    node
}

async fn is_in_file(writer: &Writer<'_>, node: NodeRef, fill: u8) -> bool {
    let buf = Buf::zeroed(node.len_bytes());
    let (read, buf) = writer.engine.io.read(node.page.byte_offset(), buf).await;
    read.is_ok() && buf[0] == 1 && buf[1..].iter().all(|&byte| byte == fill)
}

#[test]
fn neighbouring_nodes_gather_until_their_buffer_is_full() {
    block_on(async {
        let db = Db::in_memory().await.expect("it opens");
        let mut writer = Writer::new(db.engine());
        let nodes: Vec<_> = (0..40).map(|fill| (write(&mut writer, 1, fill), fill)).collect();
        writer.flush().await.expect("the disk takes them");
        let len = writer.queue.iter().map(|gathered| gathered.len).sum::<usize>();
        assert_eq!((writer.queue.len(), len), (1, 40 * PAGE_BYTES - WRITE_BYTES));
        writer.settle().await.expect("the disk takes them");
        assert!(writer.queue.is_empty() && writer.in_flight_bytes == 0);
        for (node, fill) in nodes {
            assert!(is_in_file(&writer, node, fill).await, "node {fill}");
        }
        writer.abandon();
    });
}

#[test]
fn a_node_that_is_no_neighbour_gets_a_buffer_that_its_run_can_fill() {
    block_on(async {
        let db = Db::in_memory().await.expect("it opens");
        let mut writer = Writer::new(db.engine());
        let first = write(&mut writer, 1, 1);
        let rest = writer.run.pages as u16;
        writer.allocate(u32::from(rest) - 1);
        let last = write(&mut writer, 1, 2);
        let lens: Vec<_> = writer.queue.iter().map(|gathered| gathered.buf.len()).collect();
        assert_eq!(lens, [WRITE_BYTES, PAGE_BYTES]);
        writer.settle().await.expect("the disk takes them");
        assert!(is_in_file(&writer, first, 1).await && is_in_file(&writer, last, 2).await);
        writer.abandon();
    });
}

#[test]
fn a_sync_is_begun_before_too_much_is_unsynced() {
    block_on(async {
        let db = Db::in_memory().await.expect("it opens");
        let mut writer = Writer::new(db.engine());
        let before = db.metrics().syncs;
        for _ in 0..3 * UNSYNCED_BYTES_MAX / PAGE_BYTES / 32 {
            write(&mut writer, 32, 9);
            writer.flush().await.expect("the disk takes them");
            assert!(writer.unsynced_bytes <= UNSYNCED_BYTES_MAX / 2);
        }
        writer.sync().await.expect("the disk syncs");
        assert!(db.metrics().syncs >= before + 6);
        writer.abandon();
    });
}
