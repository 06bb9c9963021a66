// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ftrace hooks.
 *
 * submit_bio_noacct() is redirected to a function that does nothing, when a bio
 * has been taken away; it never calls the original.  The functions by which the
 * superblock of a device comes and goes are redirected to functions that do call
 * them: there the callback lets pass what comes from this module, and the call
 * is followed by code, so that no compiler can turn it into a jump.
 */
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_wait.h>
#include <linux/wait.h>

#include "esnap.h"
#include "fault.h"
#include "hook.h"
#include "mount.h"
#include "registry.h"
#include "tracker.h"

/*
 * Frames of ours that may sleep in the kernel's code.  Not the module's
 * reference count: that cannot be raised while the module is going.
 */
static atomic_t nr_frames = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(frames_gone);

static unsigned int nr_users;

/* ftrace could not take a hook away: it may be called for ever. */
static bool hooks_stuck;

/* What a submitter comes to whose bio is in our hands. */
static noinline ESNAP_SUBMIT_RET bio_was_taken(struct bio *bio)
{
	return ESNAP_SUBMIT_DONE;
}

static void notrace on_submit_bio(unsigned long ip, unsigned long parent_ip,
				  struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct bio *bio = (struct bio *)esnap_ftrace_arg0(fregs);

	/* An empty flush changes nothing; every other write operation may. */
	if (!op_is_write(bio_op(bio)) || !bio_sectors(bio))
		return;
	if (esnap_registry_filter(bio))
		esnap_ftrace_set_ip(fregs, (unsigned long)bio_was_taken);
}

void esnap_hook_begin_frame(void)
{
	atomic_inc(&nr_frames);
}

/* A frame begins in the callback, which is where it cannot be refused any more. */
static void notrace redirect(unsigned long parent_ip, struct ftrace_regs *fregs, void *to)
{
	if (within_module(parent_ip, THIS_MODULE))
		return;
	esnap_hook_begin_frame();
	esnap_ftrace_set_ip(fregs, (unsigned long)to);
}

void esnap_hook_end_frame(void)
{
	if (atomic_dec_and_test(&nr_frames) && wq_has_sleeper(&frames_gone))
		wake_up_all(&frames_gone);
}

static noinline void shutdown_super(struct super_block *sb)
{
	esnap_mount_before_shutdown(sb);
	generic_shutdown_super(sb);
	esnap_mount_after_shutdown(sb);
	esnap_hook_end_frame();
}

static void notrace on_shutdown_super(unsigned long ip, unsigned long parent_ip,
				      struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	redirect(parent_ip, fregs, shutdown_super);
}

static noinline int get_tree(struct fs_context *fc,
			     int (*fill_super)(struct super_block *, struct fs_context *))
{
	int err = get_tree_bdev(fc, fill_super);

	if (!err)
		esnap_mount_begun(fc->root->d_sb);
	esnap_hook_end_frame();
	return err;
}

static void notrace on_get_tree(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				struct ftrace_regs *fregs)
{
	redirect(parent_ip, fregs, get_tree);
}

#ifdef ESNAP_MOUNT_BDEV
static noinline struct dentry *mount_old(struct file_system_type *type, int flags,
					 const char *name, void *data,
					 int (*fill_super)(struct super_block *, void *, int))
{
	struct dentry *root = mount_bdev(type, flags, name, data, fill_super);

	if (!IS_ERR(root))
		esnap_mount_begun(root->d_sb);
	esnap_hook_end_frame();
	return root;
}

static void notrace on_mount(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
	redirect(parent_ip, fregs, mount_old);
}
#endif

#define HOOK(of, callback) { .address = of, .function = #of, .ops.func = callback }

static struct {
	struct ftrace_ops ops;
	void *address;
	char *function;
} hooks[] = {
	HOOK(submit_bio_noacct, on_submit_bio),
	HOOK(generic_shutdown_super, on_shutdown_super),
	HOOK(get_tree_bdev, on_get_tree),
#ifdef ESNAP_MOUNT_BDEV
	HOOK(mount_bdev, on_mount),
#endif
};

/* Without this the memory of the filter outlives the module. */
static void forget_function(struct ftrace_ops *ops)
{
	ftrace_set_filter(ops, NULL, 0, 1);
}

/*
 * By its address, which is quick: by its name it is compared with every function
 * of the kernel, a second's work for all hooks on a slow processor.  But what
 * has that address here need not be where ftrace knows it (a jump table of CFI).
 */
static int set_function(int i)
{
	struct ftrace_ops *ops = &hooks[i].ops;
	char *function = hooks[i].function;

	if (!ftrace_set_filter_ip(ops, (unsigned long)hooks[i].address, 0, 1))
		return 0;
	return ftrace_set_filter(ops, function, strlen(function), 1);
}

/*
 * Whoever makes ftrace find something wrong shuts all of it down, and what is
 * hooked then stays so.
 */
static void stay(int i, int err)
{
	pr_crit("cannot unhook %s (%d), ftrace has shut itself down: the module stays until the machine is restarted\n",
		hooks[i].function, err);
	if (!hooks_stuck)
		__module_get(THIS_MODULE);
	hooks_stuck = true;
}

static int install(int i)
{
	struct ftrace_ops *ops = &hooks[i].ops;
	int err;

	ops->flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT | ESNAP_FTRACE_FLAGS;
	err = set_function(i);
	if (!err) {
		err = register_ftrace_function(ops);
		if (!err)
			return 0;
		/* It has shut itself down in the middle: who knows what is hooked. */
		if (err == -ENODEV)
			stay(i, err);
	}
	forget_function(ops);
	if (err == -EBUSY)
		pr_err("cannot hook %s (%d): a live patch or a BPF program has it, or kernel.ftrace_enabled is 0\n",
		       hooks[i].function, err);
	else
		pr_err("cannot hook %s (%d)\n", hooks[i].function, err);
	return err;
}

static void uninstall(int i)
{
	int err = unregister_ftrace_function(&hooks[i].ops);

	if (err)
		stay(i, err);
	else
		forget_function(&hooks[i].ops);
}

int esnap_hook_get(void)
{
	int i, err;

	lockdep_assert_held(&esnap_outer_lock);
	if (nr_users) {
		nr_users++;
		return 0;
	}
	if (hooks_stuck) {
		pr_err("cannot hook anything any more, ftrace has shut itself down: restart the machine\n");
		return -ENODEV;
	}
	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		err = install(i);
		if (err)
			goto err_hooks;
	}
	nr_users = 1;
	return 0;

err_hooks:
	while (i--)
		uninstall(i);
	return err;
}

void esnap_hook_put(void)
{
	int i;

	lockdep_assert_held(&esnap_outer_lock);
	if (--nr_users)
		return;
	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		uninstall(i);
}

void esnap_hook_wait_frames(void)
{
	if (esnap_fault("forget_frame"))
		return;
	/* While the module goes nothing else keeps it. */
	while (hooks_stuck)
		schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT);
	wait_event(frames_gone, !atomic_read(&nr_frames));
	/* A frame that has counted itself out may still have to return. */
	synchronize_rcu_tasks();
}
