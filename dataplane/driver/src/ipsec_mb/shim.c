/* What `ipsec_mb.rs` needs of Intel's IPsec-MB library, as four plain functions: the header knows the
 * layouts of its structures, Rust does not. Called by one thread a manager. Keeps nothing; keys and
 * packets are the caller's memory. `task` and the constants are written down a second time there. */

/* Aligns the library's key structures as its code wants it. */
#define LINUX
#include <intel-ipsec-mb.h>
#include <string.h>

#define TASKS_MAX 64
#define KEY_BYTES 1024
#define SHA1_KEY_BYTES 20

enum kind { CM_SHA1 = 0, GCM_128 = 1, GCM_256 = 2 };

/* Everything that is made once from a session key. */
struct expanded {
        union {
                struct gcm_key_data gcm;
                struct {
                        DECLARE_ALIGNED(uint8_t rounds[16 * 11], 16);
                        DECLARE_ALIGNED(uint8_t ipad[SHA1_KEY_BYTES], 16);
                        DECLARE_ALIGNED(uint8_t opad[SHA1_KEY_BYTES], 16);
                } cm;
        };
};
_Static_assert(sizeof(struct expanded) <= KEY_BYTES, "Rust's memory of a key");
_Static_assert(_Alignof(struct expanded) <= 64, "Rust's alignment of a key");

/* One packet: | header | payload | room for the tag |. */
struct task {
        const struct expanded *key;
        uint8_t *packet;
        uint32_t header_len;
        uint32_t payload_len;
        uint32_t tag_len;
        uint32_t kind;
        uint8_t iv[16];
        uint8_t roc[4];
};

/* A manager for this processor, or NULL: no memory, no AES instructions, a failed self-test. */
IMB_MGR *ironcast_imb_open(void)
{
        IMB_MGR *manager = alloc_mb_mgr(0);

        if (manager == NULL)
                return NULL;
        init_mb_mgr_auto(manager, NULL);
        if (imb_get_errno(manager) != 0 || manager->used_arch < IMB_ARCH_SSE) {
                free_mb_mgr(manager);
                return NULL;
        }
        return manager;
}

void ironcast_imb_close(IMB_MGR *manager)
{
        free_mb_mgr(manager);
}

/* The hash state after the first block of HMAC: the key, padded. */
static void hash_pad(IMB_MGR *manager, const uint8_t *auth, uint8_t pad, uint8_t *state)
{
        uint8_t block[IMB_SHA1_BLOCK_SIZE];

        memset(block, pad, sizeof(block));
        for (size_t at = 0; at < SHA1_KEY_BYTES; at++)
                block[at] ^= auth[at];
        IMB_SHA1_ONE_BLOCK(manager, block, state);
        imb_clear_mem(block, sizeof(block));
}

/* `raw` has 16 or 32 bytes, as the kind says, `auth` has 20. */
void ironcast_imb_expand(IMB_MGR *manager, uint32_t kind, const uint8_t *raw, const uint8_t *auth,
                         struct expanded *out)
{
        DECLARE_ALIGNED(uint8_t unused[16 * 11], 16);

        switch (kind) {
        case GCM_128:
                IMB_AES128_GCM_PRE(manager, raw, &out->gcm);
                break;
        case GCM_256:
                IMB_AES256_GCM_PRE(manager, raw, &out->gcm);
                break;
        default:
                IMB_AES_KEYEXP_128(manager, raw, out->cm.rounds, unused);
                imb_clear_mem(unused, sizeof(unused));
                hash_pad(manager, auth, 0x36, out->cm.ipad);
                hash_pad(manager, auth, 0x5c, out->cm.opad);
        }
}

static void seal_gcm(IMB_MGR *manager, const struct task *task)
{
        struct gcm_context_data context;
        const struct gcm_key_data *key = &task->key->gcm;
        uint8_t *text = task->packet + task->header_len;
        uint8_t *tag = text + task->payload_len;

        if (task->kind == GCM_128)
                IMB_AES128_GCM_ENC(manager, key, &context, text, text, task->payload_len, task->iv,
                                   task->packet, task->header_len, tag, task->tag_len);
        else
                IMB_AES256_GCM_ENC(manager, key, &context, text, text, task->payload_len, task->iv,
                                   task->packet, task->header_len, tag, task->tag_len);
}

static void describe_cm(const struct task *task, uint8_t *tag, IMB_JOB *job)
{
        const uint32_t text_end = task->header_len + task->payload_len;

        /* HMAC covers the rollover counter, which is not sent: it stands where the tag comes. */
        memcpy(task->packet + text_end, task->roc, sizeof(task->roc));
        job->enc_keys = task->key->cm.rounds;
        job->dec_keys = task->key->cm.rounds;
        job->key_len_in_bytes = 16;
        job->src = task->packet;
        job->dst = task->packet + task->header_len;
        job->cipher_start_src_offset_in_bytes = task->header_len;
        job->msg_len_to_cipher_in_bytes = task->payload_len;
        job->hash_start_src_offset_in_bytes = 0;
        job->msg_len_to_hash_in_bytes = text_end + sizeof(task->roc);
        job->iv = task->iv;
        job->iv_len_in_bytes = sizeof(task->iv);
        job->auth_tag_output = tag;
        job->auth_tag_output_len_in_bytes = SHA1_KEY_BYTES;
        job->u.HMAC._hashed_auth_key_xor_ipad = task->key->cm.ipad;
        job->u.HMAC._hashed_auth_key_xor_opad = task->key->cm.opad;
        job->cipher_mode = IMB_CIPHER_CNTR;
        job->cipher_direction = IMB_DIR_ENCRYPT;
        job->hash_alg = IMB_AUTH_HMAC_SHA_1;
        job->chain_order = IMB_ORDER_CIPHER_HASH;
        job->status = IMB_STATUS_BEING_PROCESSED;
}

/* Seals at most TASKS_MAX packets in place. Those of the counter mode are first all encrypted, then
 * hashed side by side. Returns 0, or -1 when the library refused: packets may be in the clear. */
int ironcast_imb_seal(IMB_MGR *manager, const struct task *tasks, uint32_t count)
{
        IMB_JOB jobs[TASKS_MAX];
        DECLARE_ALIGNED(uint8_t tags[TASKS_MAX][32], 16);
        const struct task *hashed[TASKS_MAX];
        uint32_t many = 0;

        if (count > TASKS_MAX)
                return -1;
        for (uint32_t at = 0; at < count; at++) {
                if (tasks[at].kind != CM_SHA1) {
                        seal_gcm(manager, &tasks[at]);
                        continue;
                }
                describe_cm(&tasks[at], tags[many], &jobs[many]);
                hashed[many++] = &tasks[at];
        }
        if (many == 0)
                return 0;
        if (IMB_SUBMIT_CIPHER_BURST_NOCHECK(manager, jobs, many, IMB_CIPHER_CNTR, IMB_DIR_ENCRYPT,
                                            IMB_KEY_128_BYTES) != many)
                return -1;
        if (IMB_SUBMIT_HASH_BURST_NOCHECK(manager, jobs, many, IMB_AUTH_HMAC_SHA_1) != many)
                return -1;
        for (uint32_t at = 0; at < many; at++) {
                const struct task *task = hashed[at];

                memcpy(task->packet + task->header_len + task->payload_len, tags[at],
                       task->tag_len);
        }
        return 0;
}
